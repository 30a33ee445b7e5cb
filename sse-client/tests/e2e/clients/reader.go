// Reads a stream with net/http as it is, and says what came when.
package main

import (
	"bufio"
	"fmt"
	"net/http"
	"os"
	"strings"
	"time"
)

func main() {
	response, err := http.Get(os.Args[1])
	if err != nil {
		fmt.Println("error", err)
		return
	}
	lines := bufio.NewScanner(response.Body)
	for lines.Scan() {
		if data, found := strings.CutPrefix(lines.Text(), "data: "); found {
			fmt.Println("event", time.Now().UnixMicro(), data)
		}
	}
	if err := lines.Err(); err != nil {
		fmt.Println("error", err)
		return
	}
	fmt.Println("end")
}
