// Package tally counts words.
package tally

import (
	"bufio"
	"io"
	"sort"
	"strings"
)

// Words maps a word to the number of times it was seen.
type Words map[string]int

// Entry is one word and its count.
type Entry struct {
	Word  string `json:"word"`
	Count int    `json:"count"`
}

// Read counts the words of r; case and surrounding punctuation do not matter.
func Read(r io.Reader) (Words, error) {
	words := Words{}
	scan := bufio.NewScanner(r)
	scan.Split(bufio.ScanWords)
	for scan.Scan() {
		if w := strings.ToLower(strings.Trim(scan.Text(), `.,;:!?"'()`)); w != "" {
			words[w]++
		}
	}
	return words, scan.Err()
}

// Top returns the n most frequent words; equally frequent ones stand in alphabetical order.
func (w Words) Top(n int) []Entry {
	entries := make([]Entry, 0, len(w))
	for word, count := range w {
		entries = append(entries, Entry{word, count})
	}
	sort.Slice(entries, func(i, j int) bool {
		a, b := entries[i], entries[j]
		return a.Count > b.Count || a.Count == b.Count && a.Word < b.Word
	})
	if n < len(entries) {
		entries = entries[:n]
	}
	return entries
}
