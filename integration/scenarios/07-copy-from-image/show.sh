#!/bin/sh
# Prints the port and the root directory that a server's configuration names.
awk '$1 == "listen" { sub(";", "", $2); print "port", $2 }
     $1 == "root"   { sub(";", "", $2); print "root", $2 }' "$1"
ls /srv/html
