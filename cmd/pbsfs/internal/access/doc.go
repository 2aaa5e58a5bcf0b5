// Package access decides who sends a request to pbsfs serve, and what that caller may do.
//
// There are three ways to be known to a [Gate]: a token in the header Authorization, in
// the form of Proxmox Backup Server; a session, which a page begins with a token and
// continues with a cookie; and the Unix socket, which only its owner can reach. Without a
// token file there is one token, which is printed once when the server starts. It may
// read and changes nothing.
//
// # Pages of others
//
// A browser sends the cookie with every request to us, whoever caused it. So the cookie
// is limited to our own pages (SameSite=Strict), a change needs a secret in a header that
// only our page knows, and requests that a browser marks as those of another origin are
// refused.
//
// # Guessing
//
// An address that shows a wrong token waits for the answer, each time longer. If too many
// of its requests wait, the others are refused unseen, because guesses in parallel must
// not be quicker.
//
// Sessions are in memory and bounded in number and time. The role of a session is that of
// its token at the time of each request, so it ends with the token. Gate.mu guards the
// sessions; nothing is called under it.
package access
