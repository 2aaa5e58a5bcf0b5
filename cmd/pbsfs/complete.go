package main

import (
	"context"
	"errors"
	"log/slog"
	"path"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/pbsfs/pbsfs/cmd/pbsfs/internal/confine"
	"github.com/pbsfs/pbsfs/cmd/pbsfs/internal/locate"
	"github.com/pbsfs/pbsfs/cmd/pbsfs/internal/unlock"
	"github.com/pbsfs/pbsfs/maint"
	"github.com/pbsfs/pbsfs/store"
	"github.com/pbsfs/pbsfs/store/name"
	"github.com/pbsfs/pbsfs/store/tree"
)

// A completion says nothing but words: who presses a key has asked no question that an
// error would answer. What cannot be known in a moment, or without a passphrase or a
// bucket, is not completed. Reading is counted, locked and refused as that of ls is.

const (
	// completeTime is how long a completion may look.
	completeTime = time.Second
	// completeWords bounds how many words a completion offers.
	completeWords = 2000
)

// errEnough ends a listing that has more than anybody looks at.
var errEnough = errors.New("enough")

// briefly runs fn, which has a moment to find words. If it has not returned by then, there
// are none; the process ends then, and fn with it.
func briefly(ctx context.Context, fn func(context.Context) []string) []string {
	ctx, cancel := context.WithTimeout(ctx, completeTime)
	defer cancel()
	found := make(chan []string, 1)
	go func() { found <- fn(ctx) }()
	select {
	case words := <-found:
		return words
	case <-ctx.Done():
	}
	select {
	case words := <-found: // what was found in that time
		return words
	case <-time.After(completeTime / 4):
		return nil
	}
}

// completeDatastore completes DATASTORE: by its name, or as a directory.
func (a *app) completeDatastore(cmd *cobra.Command, _ []string, word string) ([]string, cobra.ShellCompDirective) {
	if locate.IsPath(word) || strings.HasPrefix(word, ".") || strings.HasPrefix(word, "~") {
		return nil, cobra.ShellCompDirectiveFilterDirs
	}
	words := briefly(cmd.Context(), func(context.Context) []string { return a.datastoreWords(word) })
	if len(words) == 0 {
		return nil, cobra.ShellCompDirectiveFilterDirs
	}
	return words, cobra.ShellCompDirectiveNoFileComp
}

// datastoreWords returns the names of configured datastores.
func (a *app) datastoreWords(word string) (words []string) {
	host, err := a.host()
	if err != nil {
		return nil
	}
	list, err := maint.Datastores(host) // not locate.Configured, which cleans up
	if err != nil {
		return nil
	}
	for _, d := range list {
		if strings.HasPrefix(d.Name, word) {
			words = addWord(words, d.Name, d.Dir())
		}
	}
	return words
}

// addWord adds a word and what it is, unless the lines in which shells are given words
// cannot have it.
func addWord(words []string, word, what string) []string {
	if !canBeWord(word) {
		return words
	}
	if what != "" && canBeWord(what) {
		word += "\t" + what
	}
	return append(words, word)
}

// canBeWord reports whether a line can have a word: a control character would end it.
func canBeWord(s string) bool {
	return s != "" && !strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r == 0x7f })
}

// completeDatastores completes any number of datastores, or at most that many.
func (a *app) completeDatastores(most int) cobra.CompletionFunc {
	return func(cmd *cobra.Command, args []string, word string) ([]string, cobra.ShellCompDirective) {
		if most > 0 && len(args) >= most {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		return a.completeDatastore(cmd, args, word)
	}
}

// completePaths completes DATASTORE and PATHs in it, at most that many, or any number if
// most is 0.
func (a *app) completePaths(o *openOptions, most int) cobra.CompletionFunc {
	return func(cmd *cobra.Command, args []string, word string) ([]string, cobra.ShellCompDirective) {
		switch {
		case len(args) == 0:
			return a.completeDatastore(cmd, args, word)
		case most > 0 && len(args) > most:
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		return a.wordsIn(cmd.Context(), args[0], o, word, func(dir string) string { return dir })
	}
}

// completeHistory completes DATASTORE and a PATH in a group that has no snapshot: with
// what is in the newest one.
func (a *app) completeHistory(o *openOptions) cobra.CompletionFunc {
	return func(cmd *cobra.Command, args []string, word string) ([]string, cobra.ShellCompDirective) {
		switch len(args) {
		case 0:
			return a.completeDatastore(cmd, args, word)
		case 1:
			return a.wordsIn(cmd.Context(), args[0], o, word, inLatest)
		}
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
}

// inLatest leads the path of a directory in a group into its newest snapshot.
func inLatest(dir string) string {
	at, ok := placeOf(dir)
	if !ok || at.when != "" {
		return dir
	}
	return join(join(at.group.String(), latestName), strings.Join(at.rest, "/"))
}

// completeDiff completes DATASTORE, two snapshots, and a PATH below the first of them.
func (a *app) completeDiff(o *openOptions) cobra.CompletionFunc {
	return func(cmd *cobra.Command, args []string, word string) ([]string, cobra.ShellCompDirective) {
		if len(args) != 3 {
			return a.completePaths(o, 3)(cmd, args, word)
		}
		return a.wordsIn(cmd.Context(), args[0], o, word, func(dir string) string { return join(args[1], dir) })
	}
}

// completeRestore completes DATASTORE, PATHs, and TARGET, which is a directory of this
// host: whatever looks like one, and what is in no snapshot.
func (a *app) completeRestore(o *openOptions) cobra.CompletionFunc {
	return func(cmd *cobra.Command, args []string, word string) ([]string, cobra.ShellCompDirective) {
		if len(args) >= 2 && (word == "" || strings.ContainsAny(word[:1], "/.~")) {
			return nil, cobra.ShellCompDirectiveFilterDirs
		}
		words, directive := a.completePaths(o, 0)(cmd, args, word)
		if len(words) == 0 && len(args) >= 2 {
			return nil, cobra.ShellCompDirectiveFilterDirs
		}
		return words, directive
	}
}

// wordsIn completes a path in a datastore. place says where a directory lies that the user
// names.
func (a *app) wordsIn(ctx context.Context, datastore string, o *openOptions, word string, place func(dir string) string) ([]string, cobra.ShellCompDirective) {
	dir, begin := path.Split(word)
	words := briefly(ctx, func(ctx context.Context) (words []string) {
		_ = a.lookBriefly(ctx, datastore, o, func(ctx context.Context, d *opened) error { // what was found is offered
			return d.at(ctx, place(dir)+"/.", true, func(r *store.Reader, n *tree.Node) error {
				return tree.Visit(ctx, r, n, func(e tree.Entry) error {
					if strings.HasPrefix(e.Name, begin) {
						words = addWord(words, dir+e.Name+slashAfter(n, e), "")
					}
					if len(words) == completeWords {
						return errEnough
					}
					return ctx.Err()
				})
			})
		})
		return words
	})
	directive := cobra.ShellCompDirectiveNoFileComp
	for _, w := range words {
		if strings.HasSuffix(w, "/") { // it goes on
			directive |= cobra.ShellCompDirectiveNoSpace
			break
		}
	}
	return words, directive
}

// slashAfter returns "/" for what a path can lead into. Of links, that is the one of a group
// to its newest snapshot.
func slashAfter(dir *tree.Node, e tree.Entry) string {
	_, inside := dir.Snapshot()
	archive := e.Stored.Content() == name.Pxar || e.Stored.Content() == name.PxarMeta
	if e.Type == unix.S_IFDIR || archive || e.Type == unix.S_IFLNK && !inside {
		return "/"
	}
	return ""
}

// lookBriefly opens a datastore without keys, and silently.
func (a *app) lookBriefly(ctx context.Context, datastore string, o *openOptions, fn func(context.Context, *opened) error) error {
	host, err := a.host()
	if err != nil {
		return err
	}
	if a.confine != nil {
		_ = a.confine(forReading(host), confine.Mounting) // a key that is pressed has no place for complaints
	}
	t, err := locate.Resolve(host, datastore)
	if err != nil {
		return err
	}
	if t.Bucket != nil && !o.cachedOnly {
		return errors.New("a key that is pressed is no reason to ask a server")
	}
	ref, err := a.openTarget(ctx, host, t, openOptions{
		cachedOnly: o.cachedOnly, untracked: o.untracked, cacheSize: o.cacheSize,
	}, &unlock.Secrets{}, slog.New(slog.DiscardHandler))
	if err != nil {
		return err
	}
	return errors.Join(fn(ctx, &opened{ref, tree.New(ref)}), ref.Close())
}

// completeMaintenance completes DATASTORE and a mode.
func (a *app) completeMaintenance(cmd *cobra.Command, args []string, word string) (words []string, _ cobra.ShellCompDirective) {
	if len(args) == 0 {
		return a.completeDatastore(cmd, args, word)
	}
	for _, mode := range []string{"read-only", "offline"} {
		if len(args) == 1 && strings.HasPrefix(mode, word) {
			words = append(words, mode)
		}
	}
	return words, cobra.ShellCompDirectiveNoFileComp
}
