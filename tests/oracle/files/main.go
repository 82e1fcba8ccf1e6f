// Records what Go's file handlers answer, as vectors for a test without Go:
//
//	go run . > vectors.json
//
// The vectors hold the tree of files as well, so that the test serves the same
// one. Only the standard library is used, and only loopback.
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"time"
)

// Of every file and directory: a second with a fraction.
var modified = time.Unix(1_000_000_000, 500_000_000)

const (
	at     = "Sun, 09 Sep 2001 01:46:40 GMT"
	before = "Sun, 09 Sep 2001 01:46:39 GMT"
	after  = "Sun, 09 Sep 2001 01:46:41 GMT"
)

// Entry is a file, or a directory if its path ends with a slash.
type Entry struct {
	Path  string `json:"path"`
	Bytes []int  `json:"bytes,omitempty"`
	Link  string `json:"link,omitempty"`
}

// Case is a request and what it is answered with. Bytes are code points.
type Case struct {
	Handler string            `json:"handler"`
	Method  string            `json:"method"`
	Target  string            `json:"target"`
	Fields  []string          `json:"fields,omitempty"`
	Status  int               `json:"status"`
	Header  map[string]string `json:"header"`
	Body    string            `json:"body"`
}

// The fields that are recorded.
var recorded = []string{
	"Accept-Ranges", "Cache-Control", "Content-Encoding", "Content-Length", "Content-Range",
	"Content-Type", "Etag", "Last-Modified", "Location", "X-Content-Type-Options",
}

func file(path, content string) Entry {
	bytes := []int{}
	for _, b := range []byte(content) {
		bytes = append(bytes, int(b))
	}
	return Entry{Path: path, Bytes: bytes}
}

func tree() []Entry {
	entries := []Entry{
		{Path: "dir/"}, {Path: "dir/sub/"}, {Path: "site/"}, {Path: "types/"}, {Path: "sniff/"},
		{Path: "empty dir/"}, {Path: "per%cent/"}, {Path: "index.html.d/"},
		file("a.txt", "0123456789"), file("empty", ""), file("one", "x"),
		file("dir/a b", "space"), file("dir/a:b", "colon"), file("dir/<i>&'\"", "markup"),
		file("dir/q?h#", "marks"), file("dir/é", "accent"), file("dir/.hidden", "dot"),
		file("dir/Z", "upper"), file("dir/sub!", "sorts before its slash"),
		file("dir/sub/x", "deep"), file("dir/a%2fb", "percent"), file("dir/a+b;c=d,e$f@g", "delimiters"),
		file("site/index.html", "<h1>index</h1>"), file("per%cent/x", "percent"),
		file("..two", "two dots"), file("...", "three dots"),
		{Path: "within", Link: "a.txt"}, {Path: "dir/up", Link: ".."},
	}
	for _, extension := range strings.Fields(
		`ai apk apng avif bin bmp com css csv doc docx ehtml eml eps exe flac gif gz htm html ico ics
		jfif jpeg jpg js json m4a mjs mp3 mp4 oga ogg ogv opus pdf pjp pjpeg png ppt pptx ps rdf rtf
		shtml svg text tif tiff txt vtt wasm wav weba webm webp xbl xbm xht xhtml xls xlsx xml xsl zip
		HTML Css`) {
		entries = append(entries, file("types/x."+extension, "<?xml?>"))
	}
	return append(entries,
		file("sniff/html", " \n<!DOCTYPE HTML>"), file("sniff/text", "plain text"),
		file("sniff/binary", "\x00\x01"), file("sniff/png", "\x89PNG\r\n\x1a\n"),
		file("sniff/gzip", "\x1f\x8b\x08"), file("sniff/xml", "<?xml version"),
		file("sniff/pdf", "%PDF-1"), file("sniff/utf8", "\xef\xbb\xbfx"),
		file("sniff/late", strings.Repeat("a", 511)+"\x00"),
		file("sniff/later", strings.Repeat("a", 512)+"\x00"),
		file("sniff/x.", "<html>"), file("sniff/x.unknown-extension", "<html>"))
}

func build(root string, entries []Entry) {
	for _, e := range entries {
		path := filepath.Join(root, e.Path)
		switch {
		case e.Link != "":
			check(os.Symlink(e.Link, path))
		case strings.HasSuffix(e.Path, "/"):
			check(os.MkdirAll(path, 0o755))
		default:
			content := make([]byte, len(e.Bytes))
			for i, b := range e.Bytes {
				content[i] = byte(b)
			}
			check(os.WriteFile(path, content, 0o644))
		}
	}
	for _, e := range entries {
		if e.Link == "" {
			check(os.Chtimes(filepath.Join(root, e.Path), modified, modified))
		}
	}
	check(os.Chtimes(root, modified, modified))
}

// handlers are chosen by the field X-Handler.
func handlers(root string) http.Handler {
	content := func(tag string, kind string) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Cache-Control", "max-age=9")
			if tag != "" {
				w.Header().Set("Etag", tag)
			}
			if kind != "" {
				w.Header().Set("Content-Type", kind)
			}
			http.ServeContent(w, r, "a.txt", modified, strings.NewReader("0123456789"))
		}
	}
	named := func(name string) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			http.ServeFile(w, r, filepath.Join(root, name))
		}
	}
	table := map[string]http.Handler{
		"files":   http.FileServer(http.Dir(root)),
		"strong":  content(`"v1"`, ""),
		"weak":    content(`W/"v1"`, ""),
		"tagless": content("", "text/x-given"),
		"file":    named("a.txt"),
		"dir":     named("dir"),
		"site":    named("site"),
		"none":    named("none"),
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		table[r.Header.Get("X-Handler")].ServeHTTP(w, r)
	})
}

func cases() []Case {
	var all []Case
	add := func(handler, method, target string, fields ...string) {
		all = append(all, Case{Handler: handler, Method: method, Target: target, Fields: fields})
	}
	paths := strings.Fields(`/ /a.txt /a.txt/ /a.txt/x /a.txt?q=1 /nothing /nothing/ /dir /dir/ /dir?q=1
		/dir/. /dir/./ /dir/.. /dir/../ /dir/../a.txt /dir/sub /dir/sub/ /dir/sub/.. /dir//sub/ //a.txt
		/./a.txt /../a.txt /%2e%2e/a.txt /..%2fa.txt /dir%2fsub%2fx /dir%2f /dir%2fsub /dir/%61%20b
		/dir/a%20b /dir/a:b /dir/a:b/ /dir/%C3%A9 /dir/%3Ci%3E&'%22 /dir/q%3Fh%23 /dir/q%3Fh%23/
		/dir/a%252fb /dir/a%252fb/ /dir/a+b;c=d,e$f@g /dir/.hidden /..two /... /within /dir/up/a.txt
		/site /site/ /site/index.html /site/index.html/ /site/index.html?q /nothing/index.html
		/index.html /a/b/../../index.html /empty%20dir /empty%20dir/ /per%25cent /per%25cent/x
		/empty /one /index.html.d /index.html.d/ /a.txt%00 /a%00.txt`)
	for _, path := range paths {
		add("files", "GET", path)
		if strings.Contains(path, "%00") {
			// Go puts the NUL into a Location, which is no header field.
			continue
		}
		for _, handler := range []string{"file", "dir", "site", "none"} {
			add(handler, "GET", path)
		}
	}
	for _, path := range []string{"/", "/a.txt", "/dir/", "/dir", "/site/", "/nothing"} {
		for _, method := range []string{"HEAD", "POST", "DELETE"} {
			add("files", method, path)
		}
	}
	for _, e := range tree() {
		if strings.HasPrefix(e.Path, "types/x") || strings.HasPrefix(e.Path, "sniff/") && e.Path != "sniff/" {
			add("files", "GET", "/"+e.Path)
		}
	}
	ranges := strings.Split(`bytes=0-4|bytes=2-|bytes=-3|bytes=-30|bytes=9-99|bytes=10-|bytes=10-20|bytes=0-0,2-3
		|bytes=0-0,2-3,-1|bytes=5-6,0-1|bytes=0-,0-|bytes=0-4,5-9|bytes=0-5,5-9|bytes=0-9|bytes=-10|bytes=1-1,99-
		|bytes=99-,98-|bytes=|bytes=,|bytes=,,0-1|bytes= 1 - 2 |bytes=0-1 , 3-4|bytes=4-2|bytes=-|bytes=--1|bytes=5
		|bytes=a-b|bytes=0-1,x|lines=1-2|bytes 0-1|bytes=0-9223372036854775807|Bytes=0-1|bytes=0--1|0-1`, "|")
	for _, r := range ranges {
		for _, path := range []string{"/a.txt", "/empty", "/one"} {
			add("files", "GET", path, "Range: "+strings.TrimSpace(r))
		}
		add("strong", "HEAD", "/", "Range: "+strings.TrimSpace(r))
	}
	add("files", "GET", "/a.txt", "Range: bytes="+strings.Repeat("0-0,", 199)+"0-0")
	add("files", "GET", "/a.txt", "Range: bytes="+strings.Repeat("0-0,", 200)+"0-0")
	add("files", "GET", "/dir/", "Range: bytes=0-1")
	add("tagless", "GET", "/", "Range: bytes=0-0,2-2")

	if_ := func(name string, values ...string) []string {
		fields := []string{""}
		for _, value := range values {
			fields = append(fields, name+": "+value)
		}
		return fields
	}
	for _, match := range if_("If-Match", `"v1"`, `"v0"`) {
		for _, none := range if_("If-None-Match", `W/"v1"`, `"v0"`) {
			for _, since := range if_("If-Modified-Since", at, before) {
				for _, unmodified := range if_("If-Unmodified-Since", at, before) {
					for _, part := range []string{"", "Range: bytes=1-2", "Range: bytes=1-2|If-Range: \"v0\""} {
						var fields []string
						for _, field := range append([]string{match, none, since, unmodified}, strings.Split(part, "|")...) {
							if field != "" {
								fields = append(fields, field)
							}
						}
						add("strong", "GET", "/", fields...)
					}
				}
			}
		}
	}
	singles := []string{
		`If-Match: *`, `If-Match: "v0", "v1"`, `If-Match: ,"v1"`, `If-Match: x, "v1"`, `If-Match: W/"v1"`,
		`If-Match: "v1" x`, `If-Match: "v1`, `If-Match:`, `If-None-Match: *`, `If-None-Match: "v0","v1"`,
		`If-None-Match: "v0" "v1"`, `If-None-Match: x, "v1"`, `If-None-Match: "v1"`, `If-None-Match: w/"v1"`,
		`If-None-Match: ""`, `If-None-Match:`, `If-Modified-Since: ` + after, `If-Modified-Since: ` + at,
		`If-Modified-Since: ` + before, `If-Modified-Since: x`, `If-Modified-Since: Sunday, 09-Sep-01 01:46:40 GMT`,
		`If-Modified-Since: Sun Sep  9 01:46:40 2001`, `If-Modified-Since: Sun, 09 Sep 2001 01:46:40 UTC`,
		`If-Unmodified-Since: ` + after, `If-Unmodified-Since: x`,
	}
	for _, handler := range []string{"strong", "weak", "tagless", "file"} {
		for _, field := range singles {
			for _, method := range []string{"GET", "HEAD", "PUT"} {
				add(handler, method, "/", field)
			}
		}
		for _, validator := range []string{
			`"v1"`, `W/"v1"`, `"v0"`, at, before, after, "x", "", `"v1`, "Sunday, 09-Sep-01 01:46:40 GMT",
		} {
			add(handler, "GET", "/", "Range: bytes=1-2", "If-Range: "+validator)
		}
	}
	for _, since := range []string{at, before, after, "x"} {
		for _, method := range []string{"GET", "HEAD", "POST"} {
			add("files", method, "/dir/", "If-Modified-Since: "+since)
			add("files", method, "/site/", "If-Modified-Since: "+since)
		}
	}
	return all
}

// record sends the request and takes down what comes.
func (c *Case) record(addr string) {
	conn, err := net.Dial("tcp", addr)
	check(err)
	defer conn.Close()
	fmt.Fprintf(conn, "%s %s HTTP/1.1\r\nHost: a\r\nX-Handler: %s\r\n", c.Method, c.Target, c.Handler)
	for _, field := range c.Fields {
		fmt.Fprintf(conn, "%s\r\n", field)
	}
	fmt.Fprint(conn, "Connection: close\r\n\r\n")
	response, err := http.ReadResponse(bufio.NewReader(conn), &http.Request{Method: c.Method})
	check(err)
	body, err := io.ReadAll(response.Body)
	check(err)
	kind := response.Header.Get("Content-Type")
	boundary := ""
	if _, after, ok := strings.Cut(kind, "boundary="); ok {
		boundary = after
	}
	plain := func(text string) string {
		if boundary != "" {
			text = strings.ReplaceAll(text, boundary, "BOUNDARY")
		}
		var points strings.Builder
		for _, b := range []byte(text) {
			points.WriteRune(rune(b))
		}
		return points.String()
	}
	c.Status, c.Body, c.Header = response.StatusCode, plain(string(body)), map[string]string{}
	for _, name := range recorded {
		if value, ok := response.Header[name]; ok {
			c.Header[name] = plain(strings.Join(value, ", "))
		}
	}
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}

// lines prints one value a line, so that a change is a line of a diff.
func lines[T any](out io.Writer, name string, values []T) {
	fmt.Fprintf(out, "%q: [\n", name)
	for i, value := range values {
		comma := ","
		if i == len(values)-1 {
			comma = ""
		}
		var text strings.Builder
		encoder := json.NewEncoder(&text)
		encoder.SetEscapeHTML(false)
		check(encoder.Encode(value))
		fmt.Fprintf(out, "%s%s\n", strings.TrimSpace(text.String()), comma)
	}
	fmt.Fprint(out, "]")
}

func main() {
	root, err := os.MkdirTemp("", "oracle-files")
	check(err)
	defer os.RemoveAll(root)
	entries := tree()
	build(root, entries)
	server := httptest.NewServer(handlers(root))
	defer server.Close()
	all := cases()
	for i := range all {
		all[i].record(server.Listener.Addr().String())
	}
	out := bufio.NewWriter(os.Stdout)
	defer out.Flush()
	fmt.Fprintf(out, "{\"go\": %q,\n", runtime.Version())
	lines(out, "tree", entries)
	fmt.Fprint(out, ",\n")
	lines(out, "cases", all)
	fmt.Fprint(out, "}\n")
}
