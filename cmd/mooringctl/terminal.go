// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// isTerminal reports whether a stream of the command is a terminal.
func isTerminal(stream any) bool {
	_, terminal := terminalWidth(stream)
	return terminal
}

// terminalWidth returns the number of columns of a terminal.
func terminalWidth(stream any) (width int, terminal bool) {
	f, ok := stream.(*os.File)
	if !ok {
		return 0, false
	}
	if _, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS); err != nil {
		return 0, false
	}
	size, err := unix.IoctlGetWinsize(int(f.Fd()), unix.TIOCGWINSZ)
	if err != nil || size.Col == 0 {
		return 80, true
	}
	return int(size.Col), true
}

// clearLine moves to the start of the line and erases it (ECMA-48, EL).
const clearLine = "\r\x1b[K"

// progressLine is a line of a terminal that is replaced. On anything but a terminal it shows nothing.
type progressLine struct {
	out   io.Writer // nil: not a terminal
	width int
}

func newProgressLine(out io.Writer) *progressLine {
	width, terminal := terminalWidth(out)
	if !terminal {
		return &progressLine{}
	}
	return &progressLine{out: out, width: width}
}

// show replaces the line. A text that is too long is cut off.
func (p *progressLine) show(text string) {
	if p.out == nil {
		return
	}
	line := []rune(text)
	if len(line) >= p.width {
		line = append(line[:max(p.width-2, 0)], '…')
	}
	fmt.Fprint(p.out, clearLine+string(line))
}

func (p *progressLine) clear() { p.show("") }
