// The conformance server on Go's net/http: what the recorded answers of this
// folder come from. Its routes are those of wirepath-conformance.
//
//	oracle -listen 127.0.0.1:0 [-catchall] [-muxsets FILE]
package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"regexp"
	"strconv"
	"strings"
	"time"
)

func main() {
	listen := flag.String("listen", "127.0.0.1:0", "where to listen")
	catchall := flag.Bool("catchall", false, "answer every other path as /echo")
	muxsets := flag.String("muxsets", "", "a file of mux sets")
	flag.Parse()
	site := newSite(*catchall)
	sets := map[string]*muxSet{}
	if *muxsets != "" {
		sets = loadSets(*muxsets)
	}
	listener, err := net.Listen("tcp", *listen)
	if err != nil {
		log.Fatal(err)
	}
	server := &http.Server{
		Handler:           choose(site, sets),
		ReadHeaderTimeout: 5 * time.Second,
		IdleTimeout:       30 * time.Second,
		ErrorLog:          log.New(io.Discard, "", 0),
	}
	fmt.Printf("listening on http://%s/\n", listener.Addr())
	log.Fatal(server.Serve(listener))
}

// choose sends a request to the mux set that it names, or else to the site.
func choose(site http.Handler, sets map[string]*muxSet) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		id := r.Header.Get("X-Mux-Set")
		switch set := sets[id]; {
		case id == "":
			site.ServeHTTP(w, r)
		case id == "__reg":
			registered(w, sets[r.URL.Query().Get("id")])
		case set != nil:
			set.mux.ServeHTTP(w, r)
		default:
			http.Error(w, "no such mux set", http.StatusNotFound)
		}
	})
}

func newSite(catchall bool) http.Handler {
	mux := http.NewServeMux()
	for path, route := range map[string]http.HandlerFunc{
		"/echo": echo, "/hello": text("hello\n"), "/ignore": text("ignored\n"),
		"/noread": noread, "/big": big, "/stream": stream, "/status": status,
		"/statusbody": statusBody, "/panic": panicFirst, "/panicmid": panicMid,
		"/close": closing, "/sleep": sleep, "/shortcl": declared("10", "short"),
		"/longcl": declared("5", "longlonger"), "/sethdr": setHeader,
		"/trailers": trailers, "/early": early, "/redirect": redirect, "/dial": dial,
	} {
		mux.HandleFunc(path, route)
	}
	if catchall {
		mux.HandleFunc("/", echo)
	}
	return mux
}

// points has a code point for each byte, so that JSON carries any of them.
func points(bytes string) string {
	runes := make([]rune, len(bytes))
	for i := range len(bytes) {
		runes[i] = rune(bytes[i])
	}
	return string(runes)
}

func fields(header http.Header) map[string][]string {
	all := map[string][]string{}
	for name, values := range header {
		all[points(name)] = nil
		for _, value := range values {
			all[points(name)] = append(all[points(name)], points(value))
		}
	}
	return all
}

func echo(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		http.Error(w, "the body is broken", http.StatusBadRequest)
		return
	}
	te := r.TransferEncoding
	if te == nil {
		te = []string{}
	}
	w.Header().Set("Content-Type", "application/json")
	json.NewEncoder(w).Encode(map[string]any{
		"method": points(r.Method), "target": points(r.RequestURI),
		"path": points(r.URL.Path), "query": points(r.URL.RawQuery),
		"proto": r.Proto, "host": points(r.Host), "cl": r.ContentLength,
		"te": te, "header": fields(r.Header), "trailer": fields(r.Trailer),
		"body": points(string(body)), "remote": r.RemoteAddr,
	})
}

func text(body string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, body) }
}

func noread(w http.ResponseWriter, _ *http.Request) {
	w.WriteHeader(http.StatusForbidden)
	io.WriteString(w, "no\n")
}

func number(r *http.Request, name string) int {
	n, _ := strconv.Atoi(r.URL.Query().Get(name))
	return n
}

func big(w http.ResponseWriter, r *http.Request) {
	left := number(r, "n")
	w.Header().Set("Content-Length", strconv.Itoa(left))
	block := make([]byte, 8192)
	for i := range block {
		block[i] = 'a' + byte(i%26)
	}
	for left > 0 {
		n, err := w.Write(block[:min(left, len(block))])
		if err != nil {
			return
		}
		left -= n
	}
}

func stream(w http.ResponseWriter, r *http.Request) {
	for i := range number(r, "n") {
		fmt.Fprintf(w, "part%d\n", i)
		w.(http.Flusher).Flush()
		time.Sleep(time.Duration(number(r, "d")) * time.Millisecond)
	}
}

func status(w http.ResponseWriter, r *http.Request) { w.WriteHeader(number(r, "code")) }

func statusBody(w http.ResponseWriter, r *http.Request) {
	w.WriteHeader(number(r, "code"))
	io.WriteString(w, "body\n")
}

func panicFirst(http.ResponseWriter, *http.Request) { panic("asked to") }

func panicMid(w http.ResponseWriter, _ *http.Request) {
	io.WriteString(w, "part\n")
	w.(http.Flusher).Flush()
	panic("asked to")
}

func closing(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Connection", "close")
	io.WriteString(w, "bye\n")
}

func sleep(w http.ResponseWriter, r *http.Request) {
	time.Sleep(time.Duration(number(r, "ms")) * time.Millisecond)
	io.WriteString(w, "slept\n")
}

func declared(length, body string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", length)
		io.WriteString(w, body)
	}
}

func setHeader(w http.ResponseWriter, r *http.Request) {
	query := r.URL.Query()
	w.Header().Set(query.Get("name"), query.Get("value"))
	io.WriteString(w, "set\n")
}

func trailers(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Trailer", "X-Sum")
	io.WriteString(w, "body\n")
	w.Header().Set("X-Sum", "42")
}

func early(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Link", "</style.css>; rel=preload; as=style")
	w.WriteHeader(http.StatusEarlyHints)
	io.WriteString(w, "final\n")
}

func redirect(w http.ResponseWriter, r *http.Request) {
	http.Redirect(w, r, r.URL.Query().Get("to"), http.StatusFound)
}

func dial(w http.ResponseWriter, r *http.Request) {
	wait := time.Duration(number(r, "ms")) * time.Millisecond
	conn, err := net.DialTimeout("tcp", r.URL.Query().Get("addr"), wait)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadGateway)
		return
	}
	defer conn.Close()
	io.WriteString(conn, "dialed\n")
	conn.SetReadDeadline(time.Now().Add(2 * time.Second))
	got, _ := io.ReadAll(conn)
	fmt.Fprintf(w, "ok %q\n", got)
}

type registration struct {
	Pattern string `json:"pattern"`
	Ok      bool   `json:"ok"`
	Err     string `json:"err"`
}

type muxSet struct {
	mux  *http.ServeMux
	done []registration
}

func loadSets(path string) map[string]*muxSet {
	raw, err := os.ReadFile(path)
	if err != nil {
		log.Fatal(err)
	}
	var list []struct {
		ID       string   `json:"id"`
		Patterns []string `json:"patterns"`
	}
	if err := json.Unmarshal(raw, &list); err != nil {
		log.Fatal(err)
	}
	sets := map[string]*muxSet{}
	for _, entry := range list {
		set := &muxSet{mux: http.NewServeMux()}
		for _, pattern := range entry.Patterns {
			set.add(pattern)
		}
		sets[entry.ID] = set
	}
	return sets
}

func (s *muxSet) add(pattern string) {
	done := registration{Pattern: pattern, Ok: true}
	defer func() {
		if why := recover(); why != nil {
			done.Ok, done.Err = false, fmt.Sprint(why)
		}
		s.done = append(s.done, done)
	}()
	names := wildcards(pattern)
	s.mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
		values := map[string]string{}
		for _, name := range names {
			values[name] = points(r.PathValue(name))
		}
		encoded, _ := json.Marshal(values)
		w.Header().Set("X-Pattern", pattern)
		w.Header().Set("X-Path-Values", string(encoded))
		io.WriteString(w, "ok\n")
	})
}

var wildcard = regexp.MustCompile(`\{([^{}]*)\}`)

func wildcards(pattern string) []string {
	var names []string
	for _, found := range wildcard.FindAllStringSubmatch(pattern, -1) {
		name := strings.TrimSuffix(found[1], "...")
		if name != "" && name != "$" {
			names = append(names, name)
		}
	}
	return names
}

func registered(w http.ResponseWriter, set *muxSet) {
	w.Header().Set("Content-Type", "application/json")
	done := []registration{}
	if set != nil {
		done = append(done, set.done...)
	}
	json.NewEncoder(w).Encode(done)
}
