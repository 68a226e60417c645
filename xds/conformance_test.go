package xds

import (
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// TestConformancePage holds CONFORMANCE.md to the tests that there are.
func TestConformancePage(t *testing.T) {
	page, err := os.ReadFile("CONFORMANCE.md")
	check(t, err)
	tests := testsIn(t, ".", "")
	for name := range testsIn(t, filepath.Join("..", "deploy", "e2e"), "e2e/") {
		tests[name] = ""
	}
	named := map[string]bool{}
	reference := regexp.MustCompile("`((?:e2e/)?(?:Test|Fuzz)[A-Za-z0-9_]+)`")
	id := 0
	for line := range strings.Lines(string(page)) {
		if !regexp.MustCompile(`^\| *[0-9]`).MatchString(line) {
			continue
		}
		cells := strings.Split(strings.Trim(strings.TrimSpace(line), "|"), "|")
		id++
		if len(cells) != 4 || strings.TrimSpace(cells[0]) != strconv.Itoa(id) {
			t.Errorf("want row %d with four cells: %s", id, line)
			continue
		}
		shown := reference.FindAllStringSubmatch(cells[3], -1)
		reason := strings.HasPrefix(strings.TrimSpace(cells[3]), "Does not bind") && strings.Contains(cells[3], ": ")
		if len(shown) == 0 && !reason || len(strings.TrimSpace(cells[2])) < 10 {
			t.Errorf("row %d has neither test nor reason: %s", id, line)
		}
		for _, s := range shown {
			if _, ok := tests[s[1]]; !ok {
				t.Errorf("row %d names %s, which there is not", id, s[1])
			}
			named[s[1]] = true
		}
	}
	if id < 90 {
		t.Errorf("only %d rows", id)
	}
	for name, file := range tests {
		if file == "conform_test.go" && !named[name] {
			t.Errorf("no row names %s", name)
		}
	}
}

// testsIn returns the tests and fuzz targets of a directory with their files.
func testsIn(t *testing.T, dir, prefix string) map[string]string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "*_test.go"))
	check(t, err)
	tests := map[string]string{}
	for _, file := range files {
		source, err := os.ReadFile(file)
		check(t, err)
		for _, m := range regexp.MustCompile(`(?m)^func ((?:Test|Fuzz)[A-Za-z0-9_]+)\(\w+ \*testing\.[TF]\)`).FindAllSubmatch(source, -1) {
			tests[prefix+string(m[1])] = filepath.Base(file)
		}
	}
	if len(tests) == 0 {
		t.Fatalf("no tests in %s", dir)
	}
	return tests
}
