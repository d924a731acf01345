package plan

import (
	"fmt"
	"net"
	"strconv"
	"strings"

	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	"github.com/moby/buildkit/frontend/dockerfile/linter"

	"stagecraft/internal/graph"
)

// addExpose adds ports, given as port[-port][/protocol].
func (b *stageBuilder) addExpose(c *instructions.ExposeCommand) error {
	var ports []string
	for _, given := range c.Ports {
		words, err := b.expand.split(given, b.env)
		if err != nil {
			return b.fail(c, err)
		}
		for _, w := range words {
			ps, err := b.ports(c, w)
			if err != nil {
				return err
			}
			ports = append(ports, ps...)
		}
	}
	for _, p := range ports {
		put(&b.sets.ports, p, struct{}{})
	}
	b.commit(fmt.Sprintf("EXPOSE %v", ports), graph.None)
	return nil
}

// ports lists what one word exposes. A host part, as in "8080:80", is accepted
// with a warning and dropped, as docker does.
func (b *stageBuilder) ports(c *instructions.ExposeCommand, word string) ([]string, error) {
	bad := func(why string) error {
		e := b.refusef(c, "port %s: %s", word, why)
		e.Hint = "EXPOSE 80, EXPOSE 53/udp or EXPOSE 8000-8010/tcp"
		return e
	}
	given, protocol, _ := strings.Cut(word, "/")
	host, ports := "", given
	if i := strings.LastIndex(given, ":"); i >= 0 {
		host, ports = given[:i], given[i+1:]
		b.find(c, &linter.RuleExposeInvalidFormat, linter.RuleExposeInvalidFormat.Format(word))
	}
	if lower := strings.ToLower(protocol); lower != protocol {
		b.find(c, &linter.RuleExposeProtoCasing, linter.RuleExposeProtoCasing.Format(word))
		protocol = lower
	}
	switch protocol {
	case "":
		protocol = "tcp"
	case "tcp", "udp", "sctp":
	default:
		return nil, bad("the protocol is none of tcp, udp, sctp")
	}
	exposed, why := parsePorts(ports)
	if why == "" {
		why = checkHost(host, exposed)
	}
	if why != "" {
		return nil, bad(why)
	}
	if err := b.expand.spend(portCost * exposed.count()); err != nil {
		return nil, b.fail(c, err)
	}
	list := make([]string, 0, exposed.count())
	for n := exposed.first; n <= exposed.last; n++ {
		list = append(list, strconv.FormatUint(n, 10)+"/"+protocol)
	}
	return list, nil
}

// portCost is what a port takes off the bounds of expansion: bytes of it in
// the list, in the config and in the history.
const portCost = 64

// portRange is a port, or several that follow each other.
type portRange struct{ first, last uint64 }

func (r portRange) count() int { return int(r.last-r.first) + 1 }

// parsePorts reads "80" and "8000-8010"; why is what is wrong, "" for nothing.
func parsePorts(s string) (r portRange, why string) {
	first, last, isRange := strings.Cut(s, "-")
	if !isRange {
		last = first
	}
	var err error
	if r.first, err = strconv.ParseUint(first, 10, 16); err == nil {
		r.last, err = strconv.ParseUint(last, 10, 16)
	}
	switch {
	case err != nil:
		return r, "not a number between 0 and 65535"
	case r.last < r.first:
		return r, "the range ends before it starts"
	}
	return r, ""
}

// checkHost says what is wrong with the part before a port, "[address:]port",
// though nothing is done with it; "" is nothing.
func checkHost(host string, exposed portRange) string {
	address, port := "", host
	if i := strings.LastIndex(host, ":"); i >= 0 {
		address, port = host[:i], host[i+1:]
	}
	if address != "" {
		bare := address
		if inside, ok := strings.CutPrefix(address, "["); ok {
			bare = strings.TrimSuffix(inside, "]")
		}
		if net.ParseIP(bare) == nil {
			return "the address of the host is no IP address"
		}
	}
	if port == "" {
		return ""
	}
	r, why := parsePorts(port)
	switch {
	case why != "":
		return "the port of the host: " + why
	case exposed.count() > 1 && r.count() != exposed.count():
		return "the ranges of host and container are not of one length"
	}
	return ""
}
