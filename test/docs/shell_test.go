// SPDX-License-Identifier: Apache-2.0

package docs

import (
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"
)

var (
	shellBlock  = regexp.MustCompile("(?ms)^ *```sh\n(.*?)^ *```$")
	heredoc     = regexp.MustCompile(`(?ms) <<'EOF'$.*?^EOF$`)
	remark      = regexp.MustCompile(`(?m)(^|\s)# .*$`)
	word        = regexp.MustCompile(`(?:'[^']*'|"[^"]*"|[^\s'"])+`)
	separator   = regexp.MustCompile(`\n|&&|\|\||\||;`)
	inRepo      = regexp.MustCompile(`^(?:charts|deploy|docs|test|cmd|pkg)/[a-z0-9./_-]+$`)
	workload    = regexp.MustCompile(`^(deploy|deployment|daemonset|statefulset)/([a-z-]+)$`)
	ctlHeading  = regexp.MustCompile("(?m)^### (?:`mooringctl ([a-z ]+?)(?: [A-Z\\[].*)?`|All commands)$")
	ctlOption   = regexp.MustCompile("`(--?[a-z-]+)`")
	ctlPageName = "docs/mooringctl.md"
)

// commands returns the words of each command in the shell blocks of a page. Here documents and
// remarks are left out.
func commands(page string) [][]string {
	var all [][]string
	for _, block := range shellBlock.FindAllStringSubmatch(page, -1) {
		script := remark.ReplaceAllString(heredoc.ReplaceAllString(block[1], ""), "")
		script = strings.ReplaceAll(script, "\\\n", " ")
		for _, line := range separator.Split(script, -1) {
			words := word.FindAllString(line, -1)
			if len(words) > 0 && words[0] == "sudo" {
				words = words[1:]
			}
			if len(words) > 0 {
				all = append(all, words)
			}
		}
	}
	return all
}

// known has the subcommands and options that the pages use of programs that are not ours. Check a
// new one against the program's own help before you add it.
var known = map[string]struct{ commands, options string }{
	"helm": {"install upgrade uninstall template rollback", "-n --create-namespace --set --set-string -f --install --reset-then-reuse-values --kube-version"},
	"kubectl": {"apply create delete describe exec get label logs patch port-forward rollout scale wait",
		"-n -f -k - -o -l -c -p --tail --timeout --replicas --for --previous -w --type --overwrite"},
}

// TestShell checks the commands in the pages: subcommands, options, chart values, workloads and paths
// exist. It runs none of them.
func TestShell(t *testing.T) {
	s := shell{t: t, ctl: ctlReference(t), values: chartValues(t), manifests: text(t, "deploy/kubernetes.yaml")}
	for name, page := range documents(t) {
		s.page = name
		for _, words := range commands(page) {
			s.check(words)
			s.checked++
		}
	}
	if s.checked < 100 {
		t.Errorf("only %d commands were found", s.checked)
	}
}

type shell struct {
	t         *testing.T
	page      string
	ctl       map[string][]string // the options of each command of mooringctl
	values    map[string]bool     // of the chart
	manifests string
	checked   int
}

func (s *shell) check(words []string) {
	for _, w := range words {
		if inRepo.MatchString(w) && !workload.MatchString(w) {
			if _, err := os.Stat(filepath.Join(root, w)); err != nil {
				s.t.Errorf("%s: %s does not exist", s.page, w)
			}
		}
	}
	if i := slices.Index(words, "--"); i > 0 {
		s.check(words[i+1:])
		words = words[:i]
	}
	switch filepath.Base(words[0]) {
	case "helm":
		s.foreign(words)
		s.settings(words)
	case "kubectl":
		rest := words[1:]
		if len(rest) > 2 && rest[0] == "-n" {
			rest = rest[2:]
		}
		if rest[0] == "mooring" { // the plugin deploy/kubectl-mooring
			s.mooringctl(rest[1:])
			return
		}
		s.foreign(words)
		s.workloads(words)
	case "mooringctl":
		s.mooringctl(words[1:])
	case "mooring":
		s.mooring(words[1:])
	}
}

// foreign checks a command of a program in known.
func (s *shell) foreign(words []string) {
	may := known[words[0]]
	commands, options := strings.Fields(may.commands), strings.Fields(may.options)
	if !slices.ContainsFunc(words, func(w string) bool { return slices.Contains(commands, w) }) {
		s.t.Errorf("%s: %q has no subcommand that is known here", s.page, words)
	}
	for _, w := range words[1:] {
		if o, _, _ := strings.Cut(w, "="); strings.HasPrefix(w, "-") && !slices.Contains(options, o) {
			s.t.Errorf("%s: %s has an option %s that is not known here", s.page, words[0], o)
		}
	}
}

// settings checks the chart values that helm sets.
func (s *shell) settings(words []string) {
	for i, w := range words[:len(words)-1] {
		if w != "--set" && w != "--set-string" {
			continue
		}
		for _, pair := range strings.Split(words[i+1], ",") {
			key, _, _ := strings.Cut(pair, "=")
			for _, base := range []string{"server.nodeSelector", "monitoring.labels"} { // any key
				if strings.HasPrefix(key, base+".") {
					key = base
				}
			}
			if !s.values[key] {
				s.t.Errorf("%s: the chart has no value %s", s.page, key)
			}
		}
	}
}

// workloads checks that Deployments and DaemonSets in the namespace mooring exist.
func (s *shell) workloads(words []string) {
	i := slices.Index(words, "-n")
	if i < 0 || words[i+1] != "mooring" {
		return
	}
	for _, w := range words {
		if m := workload.FindStringSubmatch(w); m != nil && !strings.Contains(s.manifests, "\n  name: "+m[2]+"\n  namespace: mooring\n") {
			s.t.Errorf("%s: deploy/kubernetes.yaml has no %s in the namespace mooring", s.page, w)
		}
	}
}

func (s *shell) mooringctl(words []string) {
	if len(words) == 0 || words[0] == "completion" {
		return
	}
	var command string
	for i, w := range words { // options may stand before the command
		if i+1 < len(words) && s.ctl[w+" "+words[i+1]] != nil {
			w += " " + words[i+1]
		}
		if s.ctl[w] != nil {
			command = w
			break
		}
	}
	options := s.ctl[command]
	if options == nil {
		s.t.Errorf("%s: %q is no command of mooringctl", s.page, words)
		return
	}
	for _, w := range words {
		if o, _, _ := strings.Cut(w, "="); strings.HasPrefix(w, "-") && !slices.Contains(options, o) {
			s.t.Errorf("%s: mooringctl %s has no option %s", s.page, command, o)
		}
	}
}

func (s *shell) mooring(words []string) {
	if len(words) == 0 || !slices.Contains([]string{"controller", "node", "all", "alive", "check"}, words[0]) {
		s.t.Errorf("%s: mooring has no command %q", s.page, words)
		return
	}
	own := flags(s.t)
	for _, w := range words[1:] {
		if o, _, _ := strings.Cut(w, "="); strings.HasPrefix(w, "-") && o != "--v" {
			if _, ok := own[o]; !ok {
				s.t.Errorf("%s: mooring has no flag %s", s.page, o)
			}
		}
	}
}

// ctlReference reads the commands and options of mooringctl from its page, which a test of
// cmd/mooringctl compares with the program.
func ctlReference(t *testing.T) map[string][]string {
	page := text(t, ctlPageName)
	found, at := map[string][]string{}, ctlHeading.FindAllStringSubmatchIndex(page, -1)
	var common []string
	for i, m := range at {
		end := len(page)
		if i+1 < len(at) {
			end = at[i+1][0]
		}
		options := []string{"-h", "--help"}
		for line := range strings.Lines(page[m[1]:end]) {
			if strings.HasPrefix(line, "| `") {
				for _, o := range ctlOption.FindAllStringSubmatch(strings.Split(line, "|")[1], -1) {
					options = append(options, o[1])
				}
			}
		}
		if m[2] < 0 {
			common = options
		} else {
			found[page[m[2]:m[3]]] = options
		}
	}
	if len(found) < 10 || common == nil {
		t.Fatalf("%s has only the commands %v", ctlPageName, found)
	}
	for name := range found {
		found[name] = append(found[name], common...)
	}
	return found
}

// chartValues returns the paths of the chart's values, with dots, from its schema.
func chartValues(t *testing.T) map[string]bool {
	type node struct {
		Properties map[string]json.RawMessage
	}
	found := map[string]bool{}
	var walk func(prefix string, raw []byte)
	walk = func(prefix string, raw []byte) {
		var n node
		if err := json.Unmarshal(raw, &n); err != nil {
			t.Fatal(err)
		}
		for key, value := range n.Properties {
			found[prefix+key] = true
			walk(prefix+key+".", value)
		}
	}
	walk("", []byte(text(t, "charts/mooring/values.schema.json")))
	if len(found) < 50 {
		t.Fatalf("the chart's schema has only %d values", len(found))
	}
	return found
}

var (
	inlineSetting = regexp.MustCompile("`--set ([a-zA-Z.]+)=")
	valuesFile    = regexp.MustCompile(`(?ms)^cat > \S+\.values <<'EOF'\n(.*?)^EOF$`)
)

// TestSettings checks the chart values that the text names as `--set VALUE=...`, and those in files of
// values.
func TestSettings(t *testing.T) {
	values, seen := chartValues(t), 0
	for name, page := range documents(t) {
		var all []string
		for _, m := range inlineSetting.FindAllStringSubmatch(page, -1) {
			all = append(all, m[1])
		}
		for _, m := range valuesFile.FindAllStringSubmatch(page, -1) {
			var given map[string]any
			if err := yaml.Unmarshal([]byte(m[1]), &given); err != nil {
				t.Errorf("%s: %v in\n%s", name, err, m[1])
			}
			for key, value := range given {
				all = append(all, key)
				inner, _ := value.(map[string]any)
				for k := range inner {
					all = append(all, key+"."+k)
				}
			}
		}
		for _, key := range all {
			if !values[key] {
				t.Errorf("%s: the chart has no value %s", name, key)
			}
		}
		seen += len(all)
	}
	if seen < 5 {
		t.Errorf("only %d settings were found", seen)
	}
}

var substitution = regexp.MustCompile(`-e 's\|(.*?)\|`)

// TestPlaceholders looks in deploy/kubernetes.yaml for what docs/install.md replaces there.
func TestPlaceholders(t *testing.T) {
	manifests := text(t, "deploy/kubernetes.yaml")
	all := substitution.FindAllStringSubmatch(text(t, "docs/install.md"), -1)
	if len(all) != 3 {
		t.Errorf("docs/install.md replaces %q", all)
	}
	for _, m := range all {
		if !regexp.MustCompile(m[1]).MatchString(manifests) {
			t.Errorf("deploy/kubernetes.yaml has no %s", m[1])
		}
	}
}
