// Command hello greets, says what it runs on and how much it had to bring along.
package main

import (
	"bufio"
	"fmt"
	"os"
	"runtime"
	"strings"
)

func main() {
	name := "world"
	if len(os.Args) > 1 {
		name = strings.Join(os.Args[1:], " ")
	}
	fmt.Printf("Hello, %s!\n", name)
	fmt.Printf("I was compiled by %s for %s and run on %q.\n", runtime.Version(), runtime.GOARCH, system())
	if path, err := os.Executable(); err == nil {
		if info, err := os.Stat(path); err == nil {
			fmt.Printf("I am %.1f MB; the compiler stayed behind in its stage.\n", float64(info.Size())/1e6)
		}
	}
}

// system is the name that /etc/os-release gives.
func system() string {
	f, err := os.Open("/etc/os-release")
	if err != nil {
		return "nothing"
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		if key, value, _ := strings.Cut(lines.Text(), "="); key == "NAME" {
			return strings.Trim(value, `"`)
		}
	}
	return "something without a name"
}
