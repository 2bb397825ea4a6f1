// Command libtrust verifies a signed manifest that it reads, and writes the payload that was signed.
package main

import (
	"io"
	"log"
	"os"

	"github.com/docker/libtrust"
)

func main() {
	content, err := io.ReadAll(os.Stdin)
	if err != nil {
		log.Fatal(err)
	}
	signature, err := libtrust.ParsePrettySignature(content, "signatures")
	if err != nil {
		log.Fatal(err)
	}
	if _, err := signature.Verify(); err != nil {
		log.Fatal(err)
	}
	payload, err := signature.Payload()
	if err != nil {
		log.Fatal(err)
	}
	if _, err := os.Stdout.Write(payload); err != nil {
		log.Fatal(err)
	}
}
