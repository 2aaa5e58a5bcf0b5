// Package web listens for the requests to pbsfs serve and answers them through a handler
// that it is given.
//
// It decides where requests may come from. A Unix socket is made for its owner alone.
// Without TLS, only this host is listened to, and without a token file as well. A name
// that stands for several addresses must lead to this host with all of them.
//
// It bounds what a client can take: the number of connections, the length of headers, and
// the time to send them. Every answer has headers that keep a page from being framed, its
// content from being guessed at, and foreign scripts from running in it.
//
// A Server that is stopped takes no more requests and waits for those under way.
package web
