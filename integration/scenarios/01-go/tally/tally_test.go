package tally

import (
	"reflect"
	"strings"
	"testing"
)

func TestTop(t *testing.T) {
	words, err := Read(strings.NewReader("Oak, ash; oak! elm (ash) oak."))
	if err != nil {
		t.Fatal(err)
	}
	want := []Entry{{"oak", 3}, {"ash", 2}}
	if got := words.Top(2); !reflect.DeepEqual(got, want) {
		t.Errorf("Top(2) = %v, want %v", got, want)
	}
}
