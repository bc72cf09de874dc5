// SPDX-License-Identifier: Apache-2.0

// Package kube reads the Kubernetes objects that mooringctl compares with the shares, and records the
// controller's events. It decodes only the few fields of an object that it needs, page by page, so that
// the program contains neither the types of all of Kubernetes nor, in memory, all volumes of a large
// cluster.
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
	// pageSize is the maximum number of objects in one response.
	pageSize = 500
	// requestTimeout bounds one request.
	requestTimeout = 20 * time.Second
)

// ErrNoCluster is returned by Open if there is no configuration of a cluster.
var ErrNoCluster = errors.New("no cluster is configured: this does not run in a pod, and neither --kubeconfig nor KUBECONFIG names a file")

// errAbsent is a 404 of the API server: the object or the resource does not exist.
var errAbsent = errors.New("the API server has no such resource")

// Client calls an API server.
type Client struct {
	http *http.Client
	base *url.URL
}

// Open returns a Client for the cluster in the file kubeconfig or, if that is "", in the files of env
// (KUBECONFIG), or of the pod's service account. It returns ErrNoCluster if there is none of these.
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
				return nil, ErrNoCluster
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

// get reads one object, or one page of a list, into object.
func (c *Client) get(ctx context.Context, path string, query url.Values, object any) error {
	what := "ask the API server for " + path
	body, err := c.do(ctx, what, http.MethodGet, path, query, nil)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(body, object); err != nil {
		return fmt.Errorf("read the API server's answer for %s: %w", path, err)
	}
	return nil
}

// create creates an object in the collection at path.
func (c *Client) create(ctx context.Context, path string, object any) error {
	body, err := json.Marshal(object)
	if err != nil {
		return err
	}
	_, err = c.do(ctx, "create an object in "+path, http.MethodPost, path, nil, body)
	return err
}

// do sends one request, and returns the body of the response. what is the context of its errors. It
// returns errAbsent for a 404.
func (c *Client) do(ctx context.Context, what, method, path string, query url.Values, body []byte) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	u := c.base.JoinPath(path)
	u.RawQuery = query.Encode()
	r, err := http.NewRequestWithContext(ctx, method, u.String(), bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	r.Header.Set("Accept", "application/json")
	r.Header.Set("Content-Type", "application/json")
	response, err := c.http.Do(r)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", what, err)
	}
	defer response.Body.Close()
	switch response.StatusCode {
	case http.StatusOK, http.StatusCreated:
	case http.StatusNotFound:
		return nil, fmt.Errorf("%s: %w", path, errAbsent)
	default:
		var status struct {
			Message string `json:"message"`
		}
		text, _ := io.ReadAll(io.LimitReader(response.Body, 4<<10))
		if json.Unmarshal(text, &status) != nil || status.Message == "" {
			status.Message = response.Status
		}
		return nil, fmt.Errorf("%s: %s", what, status.Message)
	}
	text, err := io.ReadAll(response.Body)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", what, err)
	}
	return text, nil
}

// list calls each for all objects at path, page by page.
func list[T any](ctx context.Context, c *Client, path string, each func(T) error) error {
	query := url.Values{"limit": {fmt.Sprint(pageSize)}}
	for {
		var page struct {
			Metadata struct {
				Continue string `json:"continue"`
			} `json:"metadata"`
			Items []T `json:"items"`
		}
		if err := c.get(ctx, path, query, &page); err != nil {
			return err
		}
		for _, item := range page.Items {
			if err := each(item); err != nil {
				return err
			}
		}
		if page.Metadata.Continue == "" {
			return nil
		}
		query.Set("continue", page.Metadata.Continue)
	}
}
