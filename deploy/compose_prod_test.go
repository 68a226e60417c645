package deploy_test

import (
	"encoding/base64"
	"encoding/json"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"
)

const composeProd = "compose/docker-compose.prod.yml"

// prodService is what is checked of a service in production.
type prodService struct {
	composeService
	Networks networks `json:"networks"`
	Secrets  []string `json:"secrets"`
	Restart  string   `json:"restart"`
	Deploy   struct {
		UpdateConfig map[string]any `json:"update_config"`
		Resources    struct {
			Limits map[string]string `json:"limits"`
		} `json:"resources"`
	} `json:"deploy"`
}

// networks are a service's, by name, with its fixed address where it has one.
type networks map[string]string

func (n *networks) UnmarshalJSON(raw []byte) error {
	*n = networks{}
	var names []string
	if json.Unmarshal(raw, &names) == nil {
		for _, name := range names {
			(*n)[name] = ""
		}
		return nil
	}
	var settings map[string]struct {
		Address string `json:"ipv4_address"`
	}
	if err := json.Unmarshal(raw, &settings); err != nil {
		return err
	}
	for name, s := range settings {
		(*n)[name] = s.Address
	}
	return nil
}

type prod struct {
	Services map[string]prodService `json:"services"`
	Volumes  map[string]any         `json:"volumes"`
	Networks map[string]struct {
		IPAM struct {
			Config []struct {
				Subnet string `json:"subnet"`
			} `json:"config"`
		} `json:"ipam"`
	} `json:"networks"`
	Secrets map[string]struct {
		File string `json:"file"`
	} `json:"secrets"`
}

var interpolation = regexp.MustCompile(`\$\{([A-Z_]+)(?::?[-?]([^}]*))?\}|\$\$`)

// readProd reads the file as compose does with the variables of the example.
func readProd(t *testing.T) (prod, map[string]string) {
	t.Helper()
	variables := environment(t, "compose/prod.env.example")
	for name, value := range variables {
		if value == "" && strings.HasSuffix(name, "PASSWORD") {
			variables[name] = "of-the-test"
		}
	}
	raw, err := os.ReadFile(composeProd)
	if err != nil {
		t.Fatal(err)
	}
	text := interpolation.ReplaceAllStringFunc(string(raw), func(found string) string {
		if found == "$$" {
			return "$"
		}
		m := interpolation.FindStringSubmatch(found)
		value, ok := variables[m[1]]
		if !ok {
			t.Errorf("the example does not name %s", m[1])
		}
		if value == "" && !strings.Contains(found, "?") {
			value = m[2]
		}
		return value
	})
	var p prod
	if err := yaml.Unmarshal([]byte(text), &p); err != nil {
		t.Fatal(err)
	}
	return p, variables
}

// TestProdNodesFitTheBinary: each node's settings are a configuration that a node takes.
func TestProdNodesFitTheBinary(t *testing.T) {
	p, _ := readProd(t)
	dir := t.TempDir()
	for name, text := range map[string]string{
		"jwt_secret": strings.Repeat("s", 64), "secrets_key": base64.StdEncoding.EncodeToString(slices.Repeat([]byte("k"), 32)),
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	nodes := 0
	for name, s := range p.Services {
		if !slices.Contains(s.Command, "serve") {
			continue
		}
		nodes++
		env := maps.Clone(s.Environment)
		for variable, value := range env {
			env[variable] = strings.Replace(value, "/run/secrets", dir, 1)
		}
		checkNode(t, s.Command, env)
		if env["NODE_ID"] != name || env["ADVERTISE_ADDR"] != name || !slices.Contains(strings.Split(env["INITIAL_MEMBERS"], ","), name) {
			t.Errorf("%s: %v", name, env)
		}
		if s.Deploy.UpdateConfig["parallelism"] != float64(1) || s.Deploy.UpdateConfig["order"] != "stop-first" {
			t.Errorf("%s is updated by %v: two processes would share a volume", name, s.Deploy.UpdateConfig)
		}
	}
	if nodes != 3 {
		t.Errorf("%d nodes, want 3", nodes)
	}
}

// TestProdRefersToWhatIsThere: services, volumes, networks, secrets, files.
func TestProdRefersToWhatIsThere(t *testing.T) {
	p, variables := readProd(t)
	for name, s := range p.Services {
		if tag := regexp.MustCompile(`:[^/:]+$`).FindString(s.Image); tag == "" || tag == ":latest" {
			t.Errorf("%s: image %q has no tag that says which", name, s.Image)
		}
		if s.Restart == "" || s.Deploy.Resources.Limits["cpus"] == "" || s.Deploy.Resources.Limits["memory"] == "" || len(s.Networks) == 0 {
			t.Errorf("%s lacks a restart policy, limits or a network", name)
		}
		for n := range s.Networks {
			if _, ok := p.Networks[n]; !ok {
				t.Errorf("%s: no network %s", name, n)
			}
		}
		for _, n := range s.Secrets {
			if _, ok := p.Secrets[n]; !ok {
				t.Errorf("%s: no secret %s", name, n)
			}
		}
		for _, v := range s.Volumes {
			source, _, _ := strings.Cut(v, ":")
			switch {
			case strings.HasPrefix(source, "."):
				if _, err := os.Stat(filepath.Join("compose", source)); err != nil {
					t.Errorf("%s: %v", name, err)
				}
			case strings.HasPrefix(source, "/"):
				if source != variables["TLS_DIR"] {
					t.Errorf("%s mounts %s of the host", name, source)
				}
			default:
				if _, ok := p.Volumes[source]; !ok {
					t.Errorf("%s: no volume %s", name, source)
				}
			}
		}
	}
	targets, err := os.ReadFile("monitoring/prometheus/static.yml")
	if err != nil {
		t.Fatal(err)
	}
	nginx, err := os.ReadFile("nginx/nginx.conf")
	if err != nil {
		t.Fatal(err)
	}
	for file, text := range map[string][]byte{"static.yml": targets, "nginx.conf": nginx} {
		for _, m := range regexp.MustCompile(`\b([a-z]+-[a-z0-9]+|alertmanager):(8080|9090|9093|9187|18000)\b`).FindAllSubmatch(text, -1) {
			if _, ok := p.Services[string(m[1])]; !ok {
				t.Errorf("%s speaks of %s, which is no service", file, m[1])
			}
		}
	}
}

// TestProdNodesKeepTheirAddresses: nginx looks the nodes' names up when it starts
// and never again, and a node that is made anew would get another address.
func TestProdNodesKeepTheirAddresses(t *testing.T) {
	p, _ := readProd(t)
	taken := map[netip.Addr]string{}
	for name, s := range p.Services {
		if !slices.Contains(s.Command, "serve") {
			continue
		}
		for network := range p.Services["nginx"].Networks {
			config := p.Networks[network].IPAM.Config
			if len(config) != 1 {
				t.Fatalf("%s has no subnet", network)
			}
			subnet, err := netip.ParsePrefix(config[0].Subnet)
			if err != nil {
				t.Fatal(err)
			}
			address, err := netip.ParseAddr(s.Networks[network])
			if err != nil || !subnet.Contains(address) || taken[address] != "" {
				t.Errorf("%s has the address %q in %s of %s (%v), which %q has too", name, s.Networks[network], network, subnet, err, taken[address])
			}
			taken[address] = name
		}
	}
	if len(taken) != 6 {
		t.Errorf("%d addresses, want two of each of three nodes", len(taken))
	}
}
