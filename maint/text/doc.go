// Package text makes foreign text safe to show. Names, messages and answers may hold
// anything. Characters that would move the cursor of a terminal, begin a new line in a
// log, or reverse the direction of writing are written as escapes.
package text
