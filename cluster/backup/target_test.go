package backup

import (
	"strings"
	"testing"
)

func TestParseTarget(t *testing.T) {
	for text, want := range map[string]string{
		"/var/backups": "/var/backups", "backups": "backups", "file:///var/backups": "/var/backups",
		"s3://bucket": "s3://bucket/", "s3://bucket/a/b/": "s3://bucket/a/b/",
		"s3://bucket/a?endpoint=http://127.0.0.1:9000&region=eu&path-style=true": "s3://bucket/a/",
	} {
		if to, err := ParseTarget(text); err != nil || to.String() != want {
			t.Errorf("%s: %v, %v", text, to, err)
		}
	}
	for text, want := range map[string][]string{
		"gs://bucket":               {"neither a directory nor"},
		"file://host/dir":           {"not file:///DIRECTORY"},
		"file:///dir?x=y":           {"not file:///DIRECTORY"},
		"s3://":                     {"bucket"},
		"s3://b":                    {"\"b\""},
		"s3://%zz":                  {"not a URL"},
		"s3://k:secret@bucket/a":    {"AWS_ACCESS_KEY_ID"},
		"s3://bucket?endpoint=host": {"endpoint"},
		"s3://b?endpont=x&path-style=maybe&endpoint=ftp://h&endpoint=y": {
			"\"b\"", "unknown parameter \"endpont\"", "path-style: \"maybe\"", "endpoint: \"ftp://h\"",
		},
	} {
		_, err := ParseTarget(text)
		if err == nil {
			t.Errorf("%s passed", text)
			continue
		}
		for _, part := range want {
			if !strings.Contains(err.Error(), part) {
				t.Errorf("%s: %v does not name %s", text, err, part)
			}
		}
		if strings.Contains(err.Error(), "secret@") {
			t.Errorf("the password is told: %v", err)
		}
	}
}

// What is not the name of a backup is none.
func TestParse(t *testing.T) {
	good := "ecp-c1-20261127T085835Z-4711-" + strings.Repeat("0a", 32) + ".snap"
	if b, ok := parse(good); !ok || b.Cluster != "c1" || b.Index != 4711 || nameOf(b.Cluster, b.At, b.Index, b.SHA256) != good {
		t.Errorf("%+v", b)
	}
	for _, name := range []string{
		"", good + ".part", "." + good, strings.Replace(good, "ecp-", "x-", 1), strings.Replace(good, "c1", "a/b", 1),
		strings.Replace(good, "1127", "1327", 1), strings.Replace(good, "4711", "99999999999999999999", 1), good[:60] + ".snap",
	} {
		if _, ok := parse(name); ok {
			t.Errorf("%q passed", name)
		}
	}
}
