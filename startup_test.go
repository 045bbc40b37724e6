package main

import (
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// The budgets are what the initialisation of all packages may cost, in milliseconds. Each
// process of a run pays the hot half's.
const (
	wholeBudget = 2.5
	hotBudget   = 0.8
)

// initCost is one line of GODEBUG=inittrace=1.
type initCost struct {
	pkg string
	ms  float64
}

// TestStartup measures what the packages cost before main; `make startup` shows the dearest.
func TestStartup(t *testing.T) {
	t.Run("hot", func(t *testing.T) { testStartup(t, false, hotBudget) })
	t.Run("whole", func(t *testing.T) { testStartup(t, true, wholeBudget) })
}

func testStartup(t *testing.T, whole bool, budget float64) {
	const runs = 11
	var sums []float64
	byPackage := map[string][]float64{}
	for range runs {
		sum := 0.0
		for _, c := range traceInit(t, whole) {
			sum += c.ms
			byPackage[c.pkg] = append(byPackage[c.pkg], c.ms)
		}
		sums = append(sums, sum)
	}

	var costs []initCost
	for pkg, ms := range byPackage {
		costs = append(costs, initCost{pkg, median(ms)})
	}
	slices.SortFunc(costs, func(a, b initCost) int {
		switch {
		case a.ms > b.ms:
			return -1
		case a.ms < b.ms:
			return 1
		}
		return 0
	})
	for _, c := range costs[:min(10, len(costs))] {
		t.Logf("%7.3f ms  %s", c.ms, c.pkg)
	}
	t.Logf("%7.3f ms  all %d packages (median of %d runs)", median(sums), len(costs), runs)
	if got := median(sums); got > budget {
		t.Errorf("the packages take %.3f ms to start, more than %.1f ms", got, budget)
	}
}

func traceInit(t *testing.T, whole bool) []initCost {
	t.Helper()
	cmd := exec.Command(testFile("sbx"), "help")
	cmd.Env = append(os.Environ(), "GODEBUG=inittrace=1")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("sbx help: %v\n%s", err, out)
	}
	// sbx help is two processes, one after the other: the hot half, and the whole of sbx.
	halves := strings.SplitAfterN(string(out), "init internal/bytealg", 3)
	if len(halves) != 3 {
		t.Fatalf("traces of %d processes, want 2: %q", len(halves)-1, out)
	}
	out = []byte(halves[1])
	if whole {
		out = []byte(halves[2])
	}
	// init internal/bytealg @0.008 ms, 0.002 ms clock, 0 bytes, 0 allocs
	var costs []initCost
	for _, m := range regexp.MustCompile(`(?m)^init (\S+) @\S+ ms, (\S+) ms clock`).FindAllStringSubmatch(string(out), -1) {
		ms, err := strconv.ParseFloat(m[2], 64)
		if err != nil {
			t.Fatal(err)
		}
		costs = append(costs, initCost{m[1], ms})
	}
	if len(costs) == 0 {
		t.Fatalf("no trace in %q", out)
	}
	return costs
}

func median(values []float64) float64 {
	sorted := slices.Sorted(slices.Values(values))
	return sorted[len(sorted)/2]
}
