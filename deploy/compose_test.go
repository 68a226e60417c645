package deploy_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/org/envoy-control-plane/deploy/local"
)

const composeFile = "compose/docker-compose.dev.yml"

// composeService is what is checked of a service.
type composeService struct {
	Image       string            `json:"image"`
	Command     []string          `json:"command"`
	Environment map[string]string `json:"environment"`
	Ports       []string          `json:"ports"`
	Volumes     []string          `json:"volumes"`
	DependsOn   map[string]any    `json:"depends_on"`
	NetworkMode string            `json:"network_mode"`
	Healthcheck struct {
		Test []string `json:"test"`
	} `json:"healthcheck"`
}

type compose struct {
	Services map[string]composeService `json:"services"`
	Volumes  map[string]any            `json:"volumes"`
}

// nodes are the services that run the node.
func (c compose) nodes() map[string]composeService {
	found := map[string]composeService{}
	for name, s := range c.Services {
		if slices.Contains(s.Command, "serve") {
			found[name] = s
		}
	}
	return found
}

func TestComposeNodesFitTheBinary(t *testing.T) {
	file := readYAML[compose](t, composeFile)[0]
	nodes := file.nodes()
	if len(nodes) != 3 {
		t.Fatalf("%d nodes, want 3", len(nodes))
	}
	for name, node := range nodes {
		t.Run(name, func(t *testing.T) {
			checkNode(t, node.Command, node.Environment)
			for _, variable := range []string{"NODE_ID", "ADVERTISE_ADDR"} {
				if got := node.Environment[variable]; got != name {
					t.Errorf("%s is %q, want the service's name", variable, got)
				}
			}
			for _, variable := range []string{"JOIN", "INITIAL_MEMBERS"} {
				names := strings.Split(node.Environment[variable], ",")
				for _, other := range names {
					if _, ok := nodes[other]; !ok {
						t.Errorf("%s names %q, which is no node", variable, other)
					}
				}
				if len(names) != len(nodes) {
					t.Errorf("%s has %d names, want %d", variable, len(names), len(nodes))
				}
			}
		})
	}
}

func TestComposeRefersToWhatIsThere(t *testing.T) {
	file := readYAML[compose](t, composeFile)[0]
	taken := map[string]string{}
	for name, s := range file.Services {
		for other := range s.DependsOn {
			if _, ok := file.Services[other]; !ok {
				t.Errorf("%s depends on %q, which is no service", name, other)
			}
		}
		for _, v := range s.Volumes {
			source, _, _ := strings.Cut(v, ":")
			if !strings.HasPrefix(source, ".") {
				if _, ok := file.Volumes[source]; !ok {
					t.Errorf("%s mounts %q, which is no volume", name, source)
				}
				if taken[source] != "" {
					t.Errorf("%s and %s share the volume %s", name, taken[source], source)
				}
				taken[source] = name
			} else if _, err := os.Stat(filepath.Join("compose", source)); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
		for _, p := range s.Ports {
			host, _, ok := strings.Cut(strings.TrimPrefix(p, "127.0.0.1:"), ":")
			if !ok || !strings.HasPrefix(p, "127.0.0.1:") {
				t.Errorf("%s publishes %q, want it on loopback alone", name, p)
			}
			if taken[host] != "" {
				t.Errorf("%s and %s publish on port %s", name, taken[host], host)
			}
			taken[host] = name
		}
	}
}

// TestComposeEnvoysShareNoSocket: hot restart has one of a fixed name in each
// network, and an Envoy that finds it taken ends.
func TestComposeEnvoysShareNoSocket(t *testing.T) {
	file := readYAML[compose](t, composeFile)[0]
	shared := 0
	for name, s := range file.Services {
		if s.NetworkMode == "" || s.Command[0] != "envoy" {
			continue
		}
		shared++
		if !slices.Contains(s.Command, "--disable-hot-restart") {
			t.Errorf("%s is in another Envoy's network with hot restart: %v", name, s.Command)
		}
	}
	if shared == 0 {
		t.Error("no Envoy is in another's network")
	}
}

// checkPostgresHealth: while the image prepares a volume its server listens on
// the socket alone. One that answers there is not what others can connect to.
func checkPostgresHealth(t *testing.T, name string, s composeService) {
	t.Helper()
	if test := strings.Join(s.Healthcheck.Test, " "); !strings.Contains(test, "pg_isready -h 127.0.0.1 ") {
		t.Errorf("%s is healthy by its socket: %q", name, test)
	}
}

func TestComposePostgresIsHealthyWhenItCanBeReached(t *testing.T) {
	checkPostgresHealth(t, "postgres", readYAML[compose](t, composeFile)[0].Services["postgres"])
	p, _ := readProd(t)
	for _, name := range []string{"postgres-primary", "postgres-replica"} {
		checkPostgresHealth(t, name, p.Services[name].composeService)
	}
}

// TestComposeBootstrapsAreEnvoys: Envoy itself accepts its files.
func TestComposeBootstrapsAreEnvoys(t *testing.T) {
	envoy, err := local.FindEnvoy()
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range []string{"compose/envoy.yaml", "compose/upstream.yaml"} {
		out, err := exec.Command(envoy, "--mode", "validate", "--log-level", "warn", "-c", file).CombinedOutput()
		if err != nil {
			t.Errorf("%s: %v\n%s", file, err, out)
		}
	}
}
