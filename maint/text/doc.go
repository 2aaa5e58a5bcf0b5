// Package text makes text of others fit to be shown. Names, messages and answers
// may hold whatever somebody put there: what would move the cursor of a terminal,
// begin a line of its own in a log, or turn the direction of writing around is
// written out as an escape instead.
package text
