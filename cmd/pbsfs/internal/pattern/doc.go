// Package pattern chooses files by patterns, with the rules that the official client has
// for the files that it leaves out of a backup:
//
//   - The path of a file is relative to the top of what is chosen from.
//   - A pattern that begins with a slash is that of a whole path. Any other pattern may
//     begin to match at each name in the path: "etc/*.conf" matches "a/etc/b.conf".
//   - "*" and "?" stand for any bytes, and for one byte, but never for a slash. "[a-z]"
//     is one byte of a set, "[!a-z]" or "[^a-z]" one that is not in it. "**" is any
//     number of directories, or, beside other text, anything. A backslash takes the
//     meaning away from the character that follows it.
//   - A slash at the end: the pattern matches directories only.
//   - "!" at the beginning turns the meaning round.
//   - A pattern is also about all that lies in a directory that it matches. The last
//     pattern that is about a file decides. What no pattern is about is chosen, unless
//     the first pattern says what to take.
//
// Patterns are parsed once, where they come in ([Parse]), and become regular expressions
// that need time in proportion to the path, whatever the pattern. Names are bytes, not
// text. The package does no I/O.
package pattern
