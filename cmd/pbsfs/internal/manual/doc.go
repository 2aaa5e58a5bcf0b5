// Package manual makes manual pages of commands, from the text of their help.
//
// A page says what --help says: the text as it is, lines that are indented kept as lines,
// and each option with its usage and default. The pages are in section 8, use only the
// macros of man(7), and are the same for the same commands, version and date. Hidden
// commands have none.
//
// cobra has pages as well, which it makes of Markdown. Our texts are none: a line such as
// "*.img.d" or "[ns/NAME/...]" would lose its characters.
package manual
