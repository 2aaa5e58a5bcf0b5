package main

import (
	"errors"
	"fmt"
	"io/fs"
	"time"

	"github.com/spf13/cobra"

	"github.com/pbsfs/pbsfs/cmd/pbsfs/internal/token"
	"github.com/pbsfs/pbsfs/cmd/pbsfs/internal/usage"
)

const tokenHelp = `Make, list and remove the tokens with which programs and people are known to
'pbsfs serve'.

The file has mode 0600 and holds no secret, only salted sums of them. A server that is
running sees at once that it has changed; one that was started without a token file
has to be started again.`

// newTokenCommand makes the command 'serve token'; file is the value of --token-file.
func newTokenCommand(a *app, file *string) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "token",
		Short: "make, list and remove the tokens of the API",
		Long:  tokenHelp,
		Args:  usageArgs(cobra.NoArgs),
		RunE: func(*cobra.Command, []string) error {
			return usage.Errorf("serve token: say add, list or remove")
		},
	}
	cmd.AddCommand(newTokenAddCommand(a, file), newTokenListCommand(a, file), newTokenRemoveCommand(a, file))
	return cmd
}

func newTokenAddCommand(a *app, file *string) *cobra.Command {
	var role string
	cmd := &cobra.Command{
		Use:   "add NAME --role audit|read|admin",
		Short: "make a token, and print it once",
		Long: `Make a token, and print it: USER@REALM!NAME:SECRET. The secret is stored nowhere.

NAME may be a whole USER@REALM!NAME; else the token is one of pbsfs@pbsfs.
audit sees status and lists, read also contents, admin also changes modes.`,
		Args: usageArgs(cobra.ExactArgs(1)),
		RunE: func(_ *cobra.Command, args []string) error {
			if _, err := token.ParseName(args[0]); err != nil {
				return usage.New(err)
			}
			r, err := token.ParseRole(role)
			if err != nil {
				return usage.Errorf("--role: %w", err)
			}
			path, err := a.tokenFile(*file)
			if err != nil {
				return err
			}
			c, err := token.Add(path, args[0], r)
			if err != nil {
				return err
			}
			_, err = fmt.Fprintln(a.stdout, c.Text())
			return err
		},
	}
	cmd.Flags().StringVar(&role, "role", "", "what the token may do: audit, read or admin")
	return cmd
}

func newTokenListCommand(a *app, file *string) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "list",
		Short: "list the tokens",
		Args:  usageArgs(cobra.NoArgs),
		RunE: func(*cobra.Command, []string) error {
			path, err := a.tokenFile(*file)
			if err != nil {
				return err
			}
			list, err := token.List(path)
			if errors.Is(err, fs.ErrNotExist) {
				list, err = []token.Token{}, nil
			}
			if err != nil {
				return err
			}
			if asJSON {
				return a.json(tokenLines(list))
			}
			for _, t := range tokenLines(list) {
				fmt.Fprintf(a.out(), "%s  %s  %s\n", t.ID, t.Role, t.Created.Local().Format(time.DateTime))
			}
			return nil
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, `print [{"tokenid","role","created"}]`)
	return cmd
}

// tokenLine is a token in the output for programs.
type tokenLine struct {
	ID      string    `json:"tokenid"`
	Role    string    `json:"role"`
	Created time.Time `json:"created"`
}

func tokenLines(list []token.Token) []tokenLine {
	out := make([]tokenLine, 0, len(list))
	for _, t := range list {
		out = append(out, tokenLine{t.ID.String(), t.Role.String(), t.Created})
	}
	return out
}

func newTokenRemoveCommand(a *app, file *string) *cobra.Command {
	return &cobra.Command{
		Use:   "remove NAME",
		Short: "remove a token, which ends at once",
		Args:  usageArgs(cobra.ExactArgs(1)),
		RunE: func(_ *cobra.Command, args []string) error {
			path, err := a.tokenFile(*file)
			if err != nil {
				return err
			}
			return token.Remove(path, args[0])
		},
	}
}

// tokenFile returns the file with the tokens.
func (a *app) tokenFile(given string) (string, error) {
	host, err := a.host()
	if err != nil {
		return "", err
	}
	return tokenFile(given, host), nil
}
