// Records what Go's net/http does, for the tests of this crate to compare with.
//
//	go run generate.go
//
// writes mux.json and http.json beside itself. Standard library only.

//go:debug default=go1.27
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"math/rand"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"regexp"
	"runtime"
	"strings"
	"time"
)

type registration struct {
	Pattern string `json:"pattern"`
	Error   string `json:"error,omitempty"`
}

type answer struct {
	Method   string            `json:"method"`
	Host     string            `json:"host"`
	Target   string            `json:"target"`
	Status   int               `json:"status"`
	Pattern  string            `json:"pattern,omitempty"`
	Values   map[string]string `json:"values,omitempty"`
	Location string            `json:"location,omitempty"`
	Allow    string            `json:"allow,omitempty"`
}

type muxSet struct {
	Patterns []registration `json:"patterns"`
	Requests []answer       `json:"requests"`
}

var (
	wildcard = regexp.MustCompile(`\{([^{}.$]+)(\.\.\.)?\}`)
	site     = regexp.MustCompile(` \(registered at [^)]*\)`)
)

func register(mux *http.ServeMux, pattern string) (message string) {
	defer func() {
		if e := recover(); e != nil {
			message = site.ReplaceAllString(fmt.Sprint(e), "")
		}
	}()
	mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Pattern", pattern)
		values := map[string]string{}
		for _, m := range wildcard.FindAllStringSubmatch(pattern, -1) {
			values[m[1]] = r.PathValue(m[1])
		}
		text, _ := json.Marshal(values)
		w.Header().Set("X-Values", string(text))
	})
	return ""
}

func ask(mux *http.ServeMux, method, host, target string) (answer, bool) {
	a := answer{Method: method, Host: host, Target: target}
	raw := method + " " + target + " HTTP/1.1\r\nHost: " + host + "\r\n\r\n"
	r, err := http.ReadRequest(bufio.NewReader(strings.NewReader(raw)))
	if err != nil {
		return a, false
	}
	w := httptest.NewRecorder()
	mux.ServeHTTP(w, r)
	a.Status = w.Code
	a.Pattern = w.Header().Get("X-Pattern")
	a.Location = w.Header().Get("Location")
	a.Allow = w.Header().Get("Allow")
	json.Unmarshal([]byte(w.Header().Get("X-Values")), &a.Values)
	return a, true
}

type request struct{ method, host, target string }

func run(patterns []string, requests []request) muxSet {
	mux := http.NewServeMux()
	var set muxSet
	for _, p := range patterns {
		set.Patterns = append(set.Patterns, registration{p, register(mux, p)})
	}
	for _, q := range requests {
		if a, ok := ask(mux, q.method, q.host, q.target); ok {
			set.Requests = append(set.Requests, a)
		}
	}
	return set
}

func get(targets ...string) (requests []request) {
	for _, t := range targets {
		requests = append(requests, request{"GET", "example.com", t})
	}
	return
}

func writtenSets() []muxSet {
	bad := []string{
		"", " ", "/ ", "GET", "GET ", "GET  /", "GET\t/b", "GET \t /c", " /d", "A=B /", "GET /a b",
		"a", "a{b}/", "GET a{b}/", "/{", "/}", "/{}", "/{a", "/a}", "/{a}b", "/a{b}", "/{a}{b}",
		"/{$}", "/{$}/", "/x/{$}", "/{a...}", "/{a...}/", "/{...}", "/{a.}", "/{a..}", "/{$...}",
		"/{a}/{a}", "/{b}/{b...}", "/{1a}", "/{a1}", "/{_}", "/{é}", "/{a-b}", "/{a b}", "/{ }",
		"GET //", "GET /a//b", "GET /./a", "GET /a/..", "CONNECT /a//b", "//x", "/y/../z", "/{a}/",
		"/%zz", "/%2f", "/a%2Fb/{c}", "PoST /post", "host/", "host/{a}/b", "host:80/", "/{x}/y/{$}",
	}
	fixed := []string{
		"/", "/{$}", "/a", "/a/", "GET /b", "POST /b", "/c/{x}", "/c/d", "/e/{x}/f", "/e/{y...}",
		"GET /e/g", "h.com/a", "h.com/", "POST h.com/p", "/tree/", "GET /t2/", "/%61b/{v}", "/s/{a}/{b}/{rest...}",
		"/x%2Fy/", "DELETE /b", "HEAD /h", "CONNECT /con/", "/u/{id}/posts/{post}",
	}
	requests := get("/", "/a", "/a/", "/a/b", "/b", "/c/d", "/c/z", "/c/", "/c", "/e/1/f", "/e/1/g", "/e", "/e/",
		"/e/g", "/tree", "/tree?q=1&r=%20", "/tree/", "/t2", "/ab/v", "/%61b/v%2Fw", "/s/1/2/3/4", "/s/1/2/", "/s/1/2",
		"/x%2Fy/z", "/x%2fy", "/x/y", "//a", "/a/../b", "/a/./b?x=y", "/a//b/", "/..", "/c/%2F", "/%2F", "/c/%2e%2e", "/u/7/posts/a%20b",
		"/c/a|b", "/c/a%7Cb", "/a%2Fb|", "/c/é", "/h", "/b/", "/con", "http://h.com/a", "http://h.com", "http://other/a", "*", "/?x", "/tree?", "/c/%zz", "/c/a+b", "/tree#f")
	for _, m := range []string{"HEAD", "POST", "PUT", "DELETE", "OPTIONS", "CONNECT", "head", "FOO"} {
		for _, t := range []string{"/b", "/h", "/tree", "/c/d", "/e/g", "/nothing/x", "/con", "/con/", "/a//b", "/p", "/t2"} {
			requests = append(requests, request{m, "example.com", t})
		}
	}
	for _, h := range []string{"h.com", "h.com:80", "H.com", "h.com:", "[::1]:80", "[::1]", "a:b:c", "x.h.com"} {
		for _, t := range []string{"/a", "/p", "/zz", "/tree", "/"} {
			requests = append(requests, request{"GET", h, t})
		}
	}
	requests = append(requests, request{"CONNECT", "h.com:80", "h.com:80"}, request{"POST", "h.com", "/p"})
	noRoot := []string{"GET /a", "POST /a", "/only/", "PUT h.com/a", "/w/{x}/{$}", "GET /m/{rest...}", "/n/{x}/"}
	conflicts := []string{
		"/{a}/b", "/c/{d}", "GET /q", "/{x}/{y}", "/q", "/c/{d}/", "/{m}/{n...}", "/c/{e}", "GET /{z...}", "POST /c/{f}",
		"/b/{bucket}/o/{objectname...}", "/b/{bucket}/{verb}/default", "/i/{a}/{$}", "/i/j/{b...}", "GET /r/{x}", "HEAD /r/s", "/r/{y}",
		"h/{a}/b", "h/c/{d}", "h2/{a}/b", "GET /k/{a}", "/k/l", "/{v...}", "/z/{$}", "/z/", "/{one}/{two}/{$}", "/{one}/x/",
	}
	more := get("/a", "/b", "/only", "/w/1/", "/w/1", "/m", "/m/", "/m/x", "/n/1", "/n/1/", "/n/1/2", "/", "/zz")
	more = append(more, request{"PUT", "h.com", "/a"}, request{"DELETE", "h.com", "/a"}, request{"DELETE", "x", "/a"}, request{"HEAD", "x", "/a"})
	return []muxSet{run(bad, get("/", "/a", "/é", "/a%2Fb/c", "/a/b/c", "/post")), run(fixed, requests), run(noRoot, more),
		run(conflicts, get("/a/b", "/c/b", "/q", "/b/x/o/default", "/i/j/k", "/z/", "/z"))}
}

// randomSets are of few names, so that patterns meet.
func randomSets(n int) (sets []muxSet) {
	rng := rand.New(rand.NewSource(1))
	pick := func(from ...string) string { return from[rng.Intn(len(from))] }
	for range n {
		var patterns []string
		for range 12 {
			p := pick("", "", "", "GET ", "POST ", "HEAD ") + pick("", "", "", "h.com")
			depth := 1 + rng.Intn(4)
			for i := range depth {
				p += "/" + pick("a", "b", "c", fmt.Sprintf("{w%d}", i), fmt.Sprintf("{w%d}", i), "%2Fx", "")
			}
			p += pick("", "", "/", "/{$}", "/{r...}")
			patterns = append(patterns, p)
		}
		var requests []request
		for range 24 {
			t := ""
			for range 1 + rng.Intn(4) {
				t += "/" + pick("a", "b", "c", "d", "%61", "%2Fx", "%2F")
			}
			t += pick("", "", "/", "?q=1")
			requests = append(requests, request{pick("GET", "POST", "HEAD", "PUT"), pick("x", "h.com", "h.com:8080"), t})
		}
		sets = append(sets, run(patterns, requests))
	}
	return
}

type exchange struct {
	Request string              `json:"request"`
	Status  int                 `json:"status"`
	Header  map[string][]string `json:"header,omitempty"`
	Body    string              `json:"body"`
	Raw     string              `json:"raw,omitempty"`
	Closed  bool                `json:"closed"`
}

func routes() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("/hello", func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "hello\n") })
	mux.HandleFunc("/echo", func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			w.WriteHeader(400)
			return
		}
		fmt.Fprintf(w, "%s %s cl=%d body=%s trailer=%s", r.Method, r.RequestURI, r.ContentLength, body, r.Trailer.Get("X-T"))
	})
	mux.HandleFunc("/empty", func(w http.ResponseWriter, r *http.Request) {})
	mux.HandleFunc("/noread", func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(403); io.WriteString(w, "no\n") })
	mux.HandleFunc("/204", func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(204); io.WriteString(w, "x") })
	mux.HandleFunc("/304", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "a/b")
		w.Header().Set("Etag", `"e"`)
		w.WriteHeader(304)
	})
	mux.HandleFunc("/big", func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, strings.Repeat("x", 3000)) })
	mux.HandleFunc("/2048", func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, strings.Repeat("x", 2048)) })
	mux.HandleFunc("/flush", func(w http.ResponseWriter, r *http.Request) {
		io.WriteString(w, "a")
		w.(http.Flusher).Flush()
		io.WriteString(w, "b")
	})
	mux.HandleFunc("/shortcl", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Length", "10")
		io.WriteString(w, "short")
	})
	mux.HandleFunc("/longcl", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Length", "5")
		io.WriteString(w, "0123")
		io.WriteString(w, "456789")
	})
	mux.HandleFunc("/close", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Connection", "close")
		io.WriteString(w, "bye\n")
	})
	mux.HandleFunc("/early", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Link", "</a>")
		w.WriteHeader(103)
		io.WriteString(w, "final\n")
	})
	mux.HandleFunc("/typed", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/x")
		w.WriteHeader(201)
		io.WriteString(w, "<html>")
	})
	mux.HandleFunc("/html", func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "  <html>x") })
	mux.HandleFunc("/bin", func(w http.ResponseWriter, r *http.Request) { w.Write([]byte{0, 1, 2}) })
	mux.HandleFunc("/trailers", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Trailer", "X-Sum")
		io.WriteString(w, "body\n")
		w.Header().Set("X-Sum", "42")
	})
	mux.HandleFunc("/redirect", func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, r.URL.RawQuery, 302)
	})
	mux.HandleFunc("/dir/redirect", func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, r.URL.RawQuery, 302)
	})
	mux.HandleFunc("/tree/", func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "tree") })
	mux.HandleFunc("POST /post", func(w http.ResponseWriter, r *http.Request) {})
	return mux
}

func requestsRaw() (raws []string) {
	paths := []string{"/hello", "/empty", "/noread", "/204", "/304", "/big", "/2048", "/flush", "/shortcl", "/longcl", "/close", "/early",
		"/typed", "/html", "/bin", "/trailers", "/tree", "/tree/", "/tree?a=b", "/post", "/nope", "//hello", "*", "/redirect?/x/../y?z", "/redirect?http://h/%2F",
		"/redirect?rel", "/dir/redirect?rel/./a", "/dir/redirect?../up", "/redirect?//host/p", "/redirect?", "/redirect?<b>", "/dir/redirect?.."}
	for _, p := range paths {
		for _, m := range []string{"GET", "HEAD", "POST"} {
			raws = append(raws, m+" "+p+" HTTP/1.1\r\nHost: a\r\n\r\n")
		}
		raws = append(raws, "GET "+p+" HTTP/1.0\r\n\r\n", "GET "+p+" HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
			"GET "+p+" HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
	}
	post := func(header, body string) { raws = append(raws, "POST /echo HTTP/1.1\r\nHost: a\r\n"+header+"\r\n"+body) }
	chunked := func(body string) { post("Transfer-Encoding: chunked\r\n", body) }
	post("Content-Length: 5\r\n", "hello")
	post("Content-Length: 5\r\nContent-Length: 5\r\n", "hello")
	post("Content-Length: 5\r\nContent-Length: 6\r\n", "hello")
	post("Content-Length: +5\r\n", "hello")
	post("Content-Length: -5\r\n", "hello")
	post("Content-Length: 5, 5\r\n", "hello")
	post("Content-Length: 0x5\r\n", "hello")
	post("Content-Length: \r\n", "hello")
	post("Content-Length: 9223372036854775808\r\n", "")
	post("Content-Length: 5 \r\n", "hello")
	post("Content-Length: 005\r\n", "hello")
	post("Transfer-Encoding: gzip\r\n", "")
	post("Transfer-Encoding: gzip, chunked\r\n", "")
	post("Transfer-Encoding: Chunked\r\n", "0\r\n\r\n")
	post("Transfer-Encoding: chunked, chunked\r\n", "")
	post("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", "")
	post("Transfer-Encoding:\r\n", "")
	post("Transfer-Encoding: identity\r\n", "")
	chunked("5\r\nhello\r\n0\r\n\r\n")
	chunked("5;a=b\r\nhello\r\n0\r\n\r\n")
	chunked("5 ;a=\"b\"\r\nhello\r\n0\r\nX-T: v\r\n\r\n")
	chunked("5\nhello\r\n0\r\n\r\n")
	chunked("5\r\nhello0\r\n\r\n")
	chunked("5\r\nhelloXX0\r\n\r\n")
	chunked("x\r\n")
	chunked("\r\n")
	chunked("-1\r\n")
	chunked("+5\r\nhello\r\n0\r\n\r\n")
	chunked("0x5\r\nhello\r\n0\r\n\r\n")
	chunked("11111111111111111\r\n")
	chunked("000000000000000005\r\nhello\r\n0\r\n\r\n")
	chunked("05\r\nhello\r\n00\r\n\r\n")
	chunked("5\r\nhello\r\n0\r\nbad trailer\r\n\r\n")
	for _, line := range []string{
		"GET /hello HTTP/1.1", "GET /hello HTTP/1.2", "GET /hello HTTP/2.0", "GET /hello HTTP/1", "GET /hello http/1.1", "GET /hello HTTP/1.10",
		"GET /hello HTTP/0.9", "GET /hello", "GET  /hello HTTP/1.1", "GET /hello  HTTP/1.1", "GET /hel lo HTTP/1.1", " GET /hello HTTP/1.1",
		"G@T /hello HTTP/1.1", "GET hello HTTP/1.1", "GET http://b/hello HTTP/1.1", "GET http://b HTTP/1.1", "GET /hello%zz HTTP/1.1", "GET /hello?%zz HTTP/1.1",
		"GET /a\x01b HTTP/1.1", "OPTIONS * HTTP/1.1", "GET * HTTP/1.1", "FOO /hello HTTP/1.1", "get /hello HTTP/1.1", "PRI * HTTP/2.0", "GET /%68ello HTTP/1.1",
		"CONNECT a:80 HTTP/1.1", "GET ?x HTTP/1.1",
	} {
		raws = append(raws, line+"\r\nHost: a\r\n\r\n")
	}
	for _, header := range []string{
		"", "Host: \r\n", "Host: a\r\nHost: a\r\n", "Host: a b\r\n", "Host: a/b\r\n", "Host: [::1]:80\r\n", "Host: a@b\r\n", "host: a\r\n",
		"Host : a\r\n", "Host: a\r\nX-A : b\r\n", "Host: a\r\n X: b\r\n", "Host: a\r\nX: b\r\n c\r\n", "Host: a\r\nX\r\n", "Host: a\r\n: b\r\n",
		"Host: a\r\nX@: b\r\n", "Host: a\r\nX: a\x00b\r\n", "Host: a\r\nX: a\x7fb\r\n", "Host: a\r\nX: a\tb\r\n", "Host: a\r\nX: \xff\r\n", "Host: a\r\nX:\r\n",
		"Host: a\r\nX: a\rb\r\n", "Host: a\nX: b\r\n", "Host: a\r\nExpect: x\r\n", "Host: a\r\nExpect: 100-continue\r\n", "Host: a\r\nConnection: Close\r\n",
		"Host: a\r\nConnection: keep-alive, close\r\n", "Host: a\r\nConnection: x\r\n", "Host: a\r\nX\xc3: b\r\n",
	} {
		raws = append(raws, "GET /hello HTTP/1.1\r\n"+header+"\r\n")
	}
	raws = append(raws, "\r\nGET /hello HTTP/1.1\r\nHost: a\r\n\r\n", "GET /hello HTTP/1.1\r\nHost: a\r\n\r\nGET /empty HTTP/1.1\r\nHost: a\r\n\r\n",
		"POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
		"POST /echo HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "POST /echo HTTP/1.0\r\nContent-Length: 2\r\n\r\nhi",
		"POST /noread HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello", "POST /noread HTTP/1.1\r\nHost: a\r\nContent-Length: 300000\r\n\r\n",
		"POST /noread HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n", "GET /hello HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi")
	return
}

func play(addr, raw string) exchange {
	c, err := net.Dial("tcp", addr)
	if err != nil {
		panic(err)
	}
	defer c.Close()
	x := exchange{Request: raw}
	io.WriteString(c, raw)
	c.SetReadDeadline(time.Now().Add(150 * time.Millisecond))
	got, err := io.ReadAll(c)
	x.Closed = err == nil || strings.Contains(err.Error(), "reset")
	br := bufio.NewReader(strings.NewReader(string(got)))
	method, _, _ := strings.Cut(raw, " ")
	for {
		resp, err := http.ReadResponse(br, &http.Request{Method: method})
		if err != nil {
			return x
		}
		if resp.StatusCode < 200 && resp.StatusCode != 101 {
			x.Raw += fmt.Sprintf("%d ", resp.StatusCode)
			continue
		}
		body, _ := io.ReadAll(resp.Body)
		if x.Status != 0 {
			x.Raw += fmt.Sprintf("then %d ", resp.StatusCode)
			continue
		}
		x.Status, x.Body = resp.StatusCode, string(body)
		resp.Header.Del("Date")
		x.Header = resp.Header
		if len(resp.TransferEncoding) > 0 {
			x.Header["Transfer-Encoding"] = resp.TransferEncoding
		}
		if resp.Close {
			x.Header["X-Close"] = []string{"true"}
		}
	}
}

func record() (all []exchange) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	go http.Serve(l, routes())
	for _, raw := range requestsRaw() {
		all = append(all, play(l.Addr().String(), raw))
	}
	return
}

func save(name string, v any) {
	f, err := os.Create(name)
	if err != nil {
		panic(err)
	}
	defer f.Close()
	e := json.NewEncoder(f)
	e.SetEscapeHTML(false)
	e.SetIndent("", " ")
	if err := e.Encode(v); err != nil {
		panic(err)
	}
}

func main() {
	fmt.Println(runtime.Version())
	save("mux.json", append(writtenSets(), randomSets(60)...))
	save("http.json", record())
}
