// Command wordtally counts words: of a file, of standard input, or of what is posted to it over HTTP.
package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"log"
	"net/http"
	"os"

	"example.test/wordtally/tally"
)

func main() {
	listen := flag.String("listen", "", "serve HTTP on this address instead of reading a file")
	top := flag.Int("top", 3, "how many words to show")
	flag.Parse()
	if *listen != "" {
		log.Fatal(http.ListenAndServe(*listen, handler(*top)))
	}
	if err := count(flag.Arg(0), *top, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "wordtally:", err)
		os.Exit(1)
	}
}

func count(path string, top int, out io.Writer) error {
	in := io.Reader(os.Stdin)
	if path != "" && path != "-" {
		f, err := os.Open(path)
		if err != nil {
			return err
		}
		defer f.Close()
		in = f
	}
	words, err := tally.Read(in)
	if err != nil {
		return err
	}
	for _, w := range words.Top(top) {
		fmt.Fprintf(out, "%s %d\n", w.Word, w.Count)
	}
	return nil
}

func handler(top int) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		words, err := tally.Read(r.Body)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		json.NewEncoder(w).Encode(words.Top(top))
	})
}
