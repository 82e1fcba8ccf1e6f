// The peer of the benchmark of files: Go's FileServer on a directory.
package main

import (
	"flag"
	"fmt"
	"log"
	"net"
	"net/http"
)

func main() {
	listen := flag.String("listen", ":8080", "the `address` to listen on")
	root := flag.String("root", ".", "the `directory` to serve")
	flag.Parse()

	listener, err := net.Listen("tcp", *listen)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("listening on", listener.Addr())
	log.Fatal(http.Serve(listener, http.FileServer(http.Dir(*root))))
}
