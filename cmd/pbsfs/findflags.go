package main

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pbsfs/pbsfs/cmd/pbsfs/internal/find"
	"github.com/pbsfs/pbsfs/cmd/pbsfs/internal/usage"
)

// filter makes a filter of the flags. A value that is none is a usage error.
func (o *findOptions) filter() (*find.Filter, error) {
	f := &find.Filter{}
	for _, add := range []func(*find.Filter) error{o.globs, o.regular, o.typed, o.sized, o.timed, o.owned, o.permitted} {
		if err := add(f); err != nil {
			return nil, usage.New(err)
		}
	}
	if o.asJSON && o.print0 {
		return nil, usage.Errorf("--json and --print0 exclude each other")
	}
	return f, nil
}

func (o *findOptions) globs(f *find.Filter) error {
	check := func(flag, glob string) error {
		if glob == "" || !find.CheckGlob(glob) {
			return fmt.Errorf("%s: %q is no pattern; it may have *, ?, [a-z] and {a,b}, and \\ before what is meant as it is", flag, glob)
		}
		return nil
	}
	for _, g := range o.names {
		if err := check("--name", g); err != nil {
			return err
		}
		f.Names = append(f.Names, find.Name{Glob: g})
	}
	for _, g := range o.inames {
		if err := check("--iname", g); err != nil {
			return err
		}
		f.Names = append(f.Names, find.Name{Glob: g, Fold: true})
	}
	for _, g := range o.paths {
		if err := check("--path", g); err != nil {
			return err
		}
		f.Paths = append(f.Paths, strings.TrimPrefix(g, "/"))
	}
	return nil
}

func (o *findOptions) regular(f *find.Filter) error {
	if o.regex == "" {
		return nil
	}
	var err error
	if _, err = regexp.Compile(o.regex); err == nil {
		f.Regex, err = regexp.Compile(`\A(?:` + o.regex + `)\z`)
	}
	if err != nil {
		return fmt.Errorf("--regex: %q is no regular expression: %w", o.regex, err)
	}
	return nil
}

func (o *findOptions) typed(f *find.Filter) error {
	if o.types == "" {
		return nil
	}
	letters := map[string]uint32{
		"f": unix.S_IFREG, "d": unix.S_IFDIR, "l": unix.S_IFLNK, "b": unix.S_IFBLK, "c": unix.S_IFCHR, "p": unix.S_IFIFO, "s": unix.S_IFSOCK,
	}
	for _, l := range strings.Split(o.types, ",") {
		t, ok := letters[l]
		if !ok {
			return fmt.Errorf("--type: %q is no type; say f, d, l, b, c, p or s, or several as f,l", l)
		}
		f.Types = append(f.Types, t)
	}
	return nil
}

func (o *findOptions) sized(f *find.Filter) error {
	for _, s := range o.sizes {
		sign, digits := byte(0), s
		if s != "" && strings.ContainsRune("+-", rune(s[0])) {
			sign, digits = s[0], s[1:]
		}
		var want byteSize
		if err := want.Set(digits); err != nil || strings.ContainsAny(digits, "+-") {
			return fmt.Errorf("--size: %q is no size; write it like +10M, -512K or 4096", s)
		}
		f.Regular = true
		f.Metadata = append(f.Metadata, func(x find.State) bool {
			switch sign {
			case '+':
				return x.Size > int64(want)
			case '-':
				return x.Size < int64(want)
			}
			return x.Size == int64(want)
		})
	}
	return nil
}

func (o *findOptions) timed(f *find.Filter) error {
	if !o.newer.IsZero() {
		f.Regular = true
		f.Metadata = append(f.Metadata, func(x find.State) bool { return time.Unix(x.Mtime, 0).After(o.newer.Time) })
	}
	if !o.older.IsZero() {
		f.Regular = true
		f.Metadata = append(f.Metadata, func(x find.State) bool { return time.Unix(x.Mtime, 0).Before(o.older.Time) })
	}
	return nil
}

func (o *findOptions) owned(f *find.Filter) error {
	if o.owner == "" {
		return nil
	}
	user, group, _ := strings.Cut(o.owner, ":")
	if user+group == "" {
		return fmt.Errorf("--owner: %q is no owner; write UID, UID:GID or :GID", o.owner)
	}
	want := func(text string, of func(find.State) uint32) error {
		if text == "" {
			return nil
		}
		id, err := strconv.ParseUint(text, 10, 32)
		if err != nil {
			return fmt.Errorf("--owner: %q is no number; archives have numbers of owners, not names", text)
		}
		f.Owned = true
		f.Metadata = append(f.Metadata, func(x find.State) bool { return of(x) == uint32(id) })
		return nil
	}
	if err := want(user, func(x find.State) uint32 { return x.UID }); err != nil {
		return err
	}
	return want(group, func(x find.State) uint32 { return x.GID })
}

func (o *findOptions) permitted(f *find.Filter) error {
	if o.perm == "" {
		return nil
	}
	sign, digits := byte(0), o.perm
	if strings.ContainsRune("-/", rune(o.perm[0])) {
		sign, digits = o.perm[0], o.perm[1:]
	}
	bits, err := strconv.ParseUint(digits, 8, 12)
	if err != nil {
		return fmt.Errorf("--perm: %q are no permissions; write them like 644, -111 or /022", o.perm)
	}
	want := uint32(bits)
	f.Owned = true
	f.Metadata = append(f.Metadata, func(x find.State) bool {
		switch sign {
		case '-':
			return x.Mode&want == want
		case '/':
			return x.Mode&want != 0 || want == 0
		}
		return x.Mode == want
	})
	return nil
}

const (
	// maxHeld and minHeld bound how many snapshots a search keeps locked. Each takes two
	// descriptors.
	maxHeld = 512
	minHeld = 16
	// heldShare is which part of the descriptors that a process may have they may take.
	heldShare = 8
)

// holdLimit returns how many snapshots a search keeps locked.
func holdLimit() int {
	var l unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &l); err != nil {
		return minHeld
	}
	return int(max(minHeld, min(maxHeld, l.Cur/heldShare)))
}
