// SPDX-License-Identifier: Apache-2.0

// Package kube reads from Kubernetes what the command line compares with the shares, and tells it
// what the controller has events for. It asks for little, and takes of each object the few fields
// that it needs, so that neither the types of all of Kubernetes nor all of a large cluster's volumes
// have to be in the program.
package kube

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
)

const (
	// page is how many objects one answer has.
	page = 500
	// patience bounds one question.
	patience = 20 * time.Second
)

// ErrNoCluster: nothing says where a cluster would be.
var ErrNoCluster = errors.New("no cluster is known: this does not run in a pod, and neither --kubeconfig nor KUBECONFIG names a file")

// errAbsent: the API server does not know such objects.
var errAbsent = errors.New("the API server has no such resource")

// Client asks an API server.
type Client struct {
	http *http.Client
	base *url.URL
}

// Open returns a Client of the cluster that the kubeconfig file tells of; of the one that
// KUBECONFIG or the pod's service account tells of where that is "". ErrNoCluster: none does.
func Open(kubeconfig, env string) (*Client, error) {
	config, err := load(kubeconfig, env)
	if err != nil {
		return nil, err
	}
	config.UserAgent = "mooring"
	client, err := rest.HTTPClientFor(config)
	if err != nil {
		return nil, fmt.Errorf("prepare to ask the API server: %w", err)
	}
	base, _, err := rest.DefaultServerUrlFor(config)
	if err != nil {
		return nil, fmt.Errorf("find the API server: %w", err)
	}
	return &Client{http: client, base: base}, nil
}

func load(kubeconfig, env string) (*rest.Config, error) {
	rules := &clientcmd.ClientConfigLoadingRules{ExplicitPath: kubeconfig}
	if kubeconfig == "" {
		if env == "" {
			config, err := rest.InClusterConfig()
			if errors.Is(err, rest.ErrNotInCluster) {
				err = ErrNoCluster
			}
			return config, err
		}
		rules.Precedence = strings.Split(env, ":")
	}
	config, err := clientcmd.NewNonInteractiveDeferredLoadingClientConfig(rules, nil).ClientConfig()
	if err != nil {
		return nil, fmt.Errorf("read the kubeconfig: %w", err)
	}
	return config, nil
}

// get asks for one object, or one page of many.
func (c *Client) get(ctx context.Context, path string, query url.Values, into any) error {
	what := "ask the API server for " + path
	answer, err := c.do(ctx, what, http.MethodGet, path, query, nil)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(answer, into); err != nil {
		return fmt.Errorf("read what the API server says of %s: %w", path, err)
	}
	return nil
}

// create makes an object among those at path.
func (c *Client) create(ctx context.Context, path string, object any) error {
	body, err := json.Marshal(object)
	if err != nil {
		return err
	}
	_, err = c.do(ctx, "have the API server create one of "+path, http.MethodPost, path, nil, body)
	return err
}

// do sends one request, and returns what is answered. what it does is for errors.
func (c *Client) do(ctx context.Context, what, method, path string, query url.Values, body []byte) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	at := c.base.JoinPath(path)
	at.RawQuery = query.Encode()
	r, err := http.NewRequestWithContext(ctx, method, at.String(), bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	r.Header.Set("Accept", "application/json")
	r.Header.Set("Content-Type", "application/json")
	answer, err := c.http.Do(r)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", what, err)
	}
	defer answer.Body.Close()
	switch answer.StatusCode {
	case http.StatusOK, http.StatusCreated:
	case http.StatusNotFound:
		return nil, fmt.Errorf("%s: %w", path, errAbsent)
	default:
		var said struct {
			Message string `json:"message"`
		}
		text, _ := io.ReadAll(io.LimitReader(answer.Body, 4<<10))
		if json.Unmarshal(text, &said) != nil || said.Message == "" {
			said.Message = answer.Status
		}
		return nil, fmt.Errorf("%s: %s", what, said.Message)
	}
	text, err := io.ReadAll(answer.Body)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", what, err)
	}
	return text, nil
}

// list calls each for all objects at path, page by page.
func list[T any](ctx context.Context, c *Client, path string, each func(T) error) error {
	query := url.Values{"limit": {fmt.Sprint(page)}}
	for {
		var answer struct {
			Metadata struct {
				Continue string `json:"continue"`
			} `json:"metadata"`
			Items []T `json:"items"`
		}
		if err := c.get(ctx, path, query, &answer); err != nil {
			return err
		}
		for _, item := range answer.Items {
			if err := each(item); err != nil {
				return err
			}
		}
		if answer.Metadata.Continue == "" {
			return nil
		}
		query.Set("continue", answer.Metadata.Continue)
	}
}
