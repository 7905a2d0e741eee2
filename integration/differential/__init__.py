"""The same Dockerfiles built by lapstrake and by another implementation, and what differs in the images."""
