// Command alone looks around in an image that holds nothing else.
package main

import (
	"fmt"
	"os"
	"strings"
)

func main() {
	entries, err := os.ReadDir("/")
	if err != nil {
		fmt.Fprintln(os.Stderr, "alone:", err)
		os.Exit(1)
	}
	for _, e := range entries {
		if info, err := e.Info(); err == nil && info.Mode().IsRegular() && !strings.HasPrefix(e.Name(), ".") {
			fmt.Println("file", e.Name())
		}
	}
	fmt.Println("arguments", len(os.Args)-1, strings.Join(os.Args[1:], " "))
	fmt.Println("greeting", os.Getenv("GREETING"))
}
