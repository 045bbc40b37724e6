package fuseoverlay

import "strconv"

// The server is a process of its own, named ProcessName. It finds open descriptors: the device, a pipe for
// its word that it serves, or why not, and then the layers, topmost first, with the upper and the work directory
// after them if there are any.
const (
	ProcessName = "sbx-overlay"
	DeviceFD    = 3
	ReadyFD     = 4
	LayersFD    = 5
)

// Ready is what it says on the pipe when all is well.
const Ready = "ready"

// Argv is what it is called with.
func Argv(lower int, upper, volatile bool) []string {
	return []string{ProcessName, strconv.Itoa(lower), strconv.FormatBool(upper), strconv.FormatBool(volatile)}
}
