// Package page is the page of `pbsfs serve`: what a browser shows at the address of the
// server.
//
// It is plain HTML, CSS and JavaScript, embedded in the program as it is: there is no
// step between the files in assets/ and the browser, and nothing is loaded from
// elsewhere. The page talks to the server by its API alone; the package knows neither
// datastores nor the API.
//
// The scripts are modules of one theme each. main.js puts them together. api.js calls the
// server, session.js logs in and out, live.js follows the server's events, route.js turns
// the address into a place and back. overview.js, card.js and holders.js show the
// datastores and who has what open, maintenance.js changes their modes, browse.js and
// levels.js go through their contents, list.js shows a listing of any length, view.js
// shows a file, and text.js and dom.js turn values into text and text into elements.
//
// Everything that comes from a datastore is hostile: names, comments, and the bytes of
// files. It becomes text nodes and nothing else, and characters that would reorder or hide
// text are replaced by their code points. Policy is the second line: under it a browser
// runs no script and applies no style but those of this package. A test scans the assets
// for what would break either rule.
package page
