package main

import (
	"encoding/json"
	"io"

	"github.com/pbsfs/pbsfs/maint/text"
)

// What a command prints for people goes through out, and what it complains about
// through stderr, which is made so from the beginning: names, messages and answers of
// others come out printable. Inside a line they are made so where it is put together,
// for a line break in them must not begin another one. Contents of files, and names
// that are not for a terminal, go to stdout as they are.

// out is where a command prints for people.
func (a *app) out() io.Writer { return text.NewWriter(a.stdout) }

// json prints a value for programs.
func (a *app) json(v any) error {
	data, err := json.Marshal(v)
	if err != nil {
		return err
	}
	_, err = a.stdout.Write(text.JSON(append(data, '\n')))
	return err
}
