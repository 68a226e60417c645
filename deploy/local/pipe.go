package local

import (
	"io"
	"net"
)

// Pipe copies both ways until one side is closed, and closes both.
func Pipe(a, b net.Conn) {
	for _, ends := range [][2]net.Conn{{a, b}, {b, a}} {
		go func() {
			_, _ = io.Copy(ends[0], ends[1])
			_, _ = ends[0].Close(), ends[1].Close()
		}()
	}
}
