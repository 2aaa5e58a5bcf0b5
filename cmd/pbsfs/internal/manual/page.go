package manual

import (
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// Section is the section of the pages.
const Section = "8"

// About is what all pages say of the program.
type About struct {
	Version string
	Date    string // of the version, such as 2026-11-20; "" if it is not known
}

// Page is the manual page of one command.
type Page struct {
	Name string // pbsfs-key-show.8
	Text []byte
}

// Pages returns the pages of a command and of all below it.
func Pages(cmd *cobra.Command, about About) []Page {
	out := []Page{Of(cmd, about)}
	for _, c := range shown(cmd) {
		out = append(out, Pages(c, about)...)
	}
	return out
}

// Of returns the page of one command, which names related pages beside those of the commands
// around it.
func Of(cmd *cobra.Command, about About, related ...string) Page {
	return Page{Name: title(cmd) + "." + Section, Text: page(cmd, about, related)}
}

// shown returns the commands below a command that have pages. That which cobra adds to
// give help is left out: man is in its place.
func shown(cmd *cobra.Command) []*cobra.Command {
	return slices.DeleteFunc(slices.Clone(cmd.Commands()), func(c *cobra.Command) bool {
		return !c.IsAvailableCommand() || c.Name() == "help"
	})
}

// title returns the name of a command's page.
func title(cmd *cobra.Command) string { return strings.ReplaceAll(cmd.CommandPath(), " ", "-") }

func page(cmd *cobra.Command, about About, related []string) []byte {
	r := &roff{}
	r.macro("TH", escaped(strings.ToUpper(title(cmd))), Section, about.Date, escaped("pbsfs "+about.Version), "pbsfs")
	r.macro("SH", "NAME")
	fmt.Fprintf(r, "%s \\- %s\n", escaped(title(cmd)), escaped(cmd.Short))
	r.macro("SH", "SYNOPSIS")
	r.synopsis(cmd)
	r.macro("SH", "DESCRIPTION")
	long := cmd.Long
	if long == "" {
		long = sentence(cmd.Short)
	}
	r.text(long)
	r.commands(cmd)
	r.options("OPTIONS", cmd.LocalFlags())
	r.options("OPTIONS OF ALL COMMANDS", cmd.InheritedFlags())
	if cmd.HasParent() {
		r.macro("SH", "EXIT STATUS")
		r.line("0 if all was done; pbsfs(8) lists the other codes.")
	}
	r.seeAlso(cmd, related)
	return []byte(r.String())
}

// sentence makes a sentence of a short description.
func sentence(short string) string { return strings.ToUpper(short[:1]) + short[1:] + "." }

func (r *roff) synopsis(cmd *cobra.Command) {
	words := []string{`\fB` + escaped(cmd.CommandPath()) + `\fR`}
	if _, args, ok := strings.Cut(cmd.Use, " "); ok {
		words = append(words, escaped(args))
	}
	if cmd.HasAvailableSubCommands() {
		words = append(words, "[command]")
	}
	fmt.Fprintln(r, strings.Join(append(words, "[options]"), " "))
}

// commands lists the commands below a command.
func (r *roff) commands(cmd *cobra.Command) {
	list := shown(cmd)
	if len(list) == 0 {
		return
	}
	r.macro("SH", "COMMANDS")
	for _, c := range list {
		r.macro("TP")
		fmt.Fprintf(r, "\\fB%s\\fR(%s)\n", escaped(title(c)), Section)
		r.line(c.Short)
	}
}

// options lists flags.
func (r *roff) options(heading string, flags *pflag.FlagSet) {
	flags.VisitAll(func(f *pflag.Flag) {
		if f.Hidden {
			return
		}
		if heading != "" {
			r.macro("SH", heading)
			heading = ""
		}
		r.macro("TP")
		value, usage := pflag.UnquoteUsage(f)
		if f.Shorthand != "" {
			fmt.Fprintf(r, `\fB\-%s\fR, `, escaped(f.Shorthand))
		}
		fmt.Fprintf(r, `\fB\-\-%s\fR`, escaped(f.Name))
		if value != "" {
			fmt.Fprintf(r, ` \fI%s\fR`, escaped(valueName(value)))
		}
		fmt.Fprintln(r)
		if f.DefValue != "" && !slices.Contains([]string{"false", "0", "0s", "[]"}, f.DefValue) {
			usage += fmt.Sprintf(" (default %s)", f.DefValue)
		}
		r.line(usage)
	})
}

// valueName returns what the value of an option is called.
func valueName(value string) string {
	switch value {
	case "string", "strings", "stringArray":
		return "TEXT"
	case "int":
		return "N"
	}
	return strings.ToUpper(value)
}

func (r *roff) seeAlso(cmd *cobra.Command, names []string) {
	if cmd.HasParent() {
		for c := cmd.Parent(); c != nil; c = c.Parent() {
			names = append(names, title(c))
		}
	}
	for _, c := range shown(cmd) {
		names = append(names, title(c))
	}
	slices.Sort(names)
	r.macro("SH", "SEE ALSO")
	for i, n := range names {
		end := ","
		if i == len(names)-1 {
			end = ""
		}
		r.macro("BR", escaped(n), "("+Section+")"+end)
	}
}
