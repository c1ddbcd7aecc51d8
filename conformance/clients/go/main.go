// An application with the published Go SDK: carries out JSON lines, answers with JSON lines.
// The language that all clients speak is described in ../README.md.
package main

import (
	"bufio"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"reflect"
	"sync"
	"sync/atomic"
	"time"

	harness "github.com/harness/ff-golang-server-sdk/client"
	"github.com/harness/ff-golang-server-sdk/evaluation"
	"github.com/harness/ff-golang-server-sdk/logger"
	"github.com/harness/ff-golang-server-sdk/types"
)

type target struct {
	Identifier string                  `json:"identifier"`
	Name       string                  `json:"name"`
	Attributes *map[string]interface{} `json:"attributes"`
}

type question struct {
	Flag    string      `json:"flag"`
	Kind    string      `json:"kind"`
	Target  target      `json:"target"`
	Default interface{} `json:"default"`
}

type command struct {
	ID      int           `json:"id"`
	Do      string        `json:"do"`
	App     string        `json:"app"`
	Key     string        `json:"key"`
	URL     string        `json:"url"`
	CA      string        `json:"ca"`
	Seconds float64       `json:"seconds"`
	Ask     []question    `json:"ask"`
	Values  []interface{} `json:"values"`
	Poll    uint          `json:"poll"`
	Polling bool          `json:"polling"`
}

type fields map[string]interface{}

// A poll that ends after a close panics (../../reproductions/closing.py), and an application cannot see
// whether one is under way. It is certain that none is where the stream was there before the first poll
// was due, and has been since.
type application struct {
	*harness.CfClient
	steady atomic.Bool
}

const firstPoll = 60 * time.Second

func (app *application) watch() {
	opened := time.Now()
	for !app.IsStreamConnected() {
		if time.Since(opened) > firstPoll/2 {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	app.steady.Store(true)
	// It takes half a second at least to connect anew.
	for app.IsStreamConnected() {
		time.Sleep(50 * time.Millisecond)
	}
	app.steady.Store(false)
}

var (
	apps    sync.Map // name to *application
	printer sync.Mutex
)

func main() {
	lines := bufio.NewScanner(os.Stdin)
	lines.Buffer(nil, 64<<20)
	for lines.Scan() {
		var todo command
		if err := json.Unmarshal(lines.Bytes(), &todo); err != nil {
			panic(err)
		}
		go carryOut(todo)
	}
}

func carryOut(todo command) {
	answer, err := do(todo)
	if err != nil {
		answer = fields{"error": err.Error()}
	}
	answer["id"] = todo.ID
	text, _ := json.Marshal(answer)
	printer.Lock()
	defer printer.Unlock()
	fmt.Println(string(text))
}

func do(todo command) (fields, error) {
	if todo.Do == "open" {
		return open(todo)
	}
	found, known := apps.Load(todo.App)
	if !known {
		return nil, errors.New("there is no application " + todo.App)
	}
	app := found.(*application)
	sdk := app.CfClient
	switch todo.Do {
	case "values":
		return fields{"values": values(sdk, todo.Ask)}, nil
	case "until":
		return until(sdk, todo), nil
	case "close":
		apps.Delete(todo.App)
		if !app.steady.Load() && !todo.Polling {
			return fields{}, nil
		}
		return fields{}, sdk.Close()
	}
	return nil, errors.New("nobody knows how to " + todo.Do)
}

func open(todo command) (fields, error) {
	options := []harness.ConfigOption{
		harness.WithURL(todo.URL), harness.WithEventsURL(todo.URL),
		harness.WithStoreEnabled(false), harness.WithLogger(logger.NewNoOpLogger()),
	}
	if todo.CA != "" {
		pem, err := os.ReadFile(todo.CA)
		if err != nil {
			return nil, err
		}
		pool := x509.NewCertPool()
		pool.AppendCertsFromPEM(pem)
		transport := http.DefaultTransport.(*http.Transport).Clone()
		transport.TLSClientConfig = &tls.Config{RootCAs: pool}
		options = append(options, harness.WithHTTPClient(&http.Client{Transport: transport}))
	}
	if todo.Poll > 0 {
		options = append(options, harness.WithPullInterval(todo.Poll))
	}
	sdk, err := harness.NewCfClient(todo.Key, options...)
	if err != nil {
		return nil, err
	}
	app := &application{CfClient: sdk}
	apps.Store(todo.App, app)
	go app.watch()
	deadline := time.Now().Add(seconds(todo.Seconds))
	// It looks every two seconds, thirty times.
	ready := make(chan bool, 1)
	go func() {
		ok := false
		for !ok && time.Now().Before(deadline) {
			ok, _ = sdk.IsInitialized()
		}
		ready <- ok
	}()
	select {
	case ok := <-ready:
		return fields{"ready": ok}, nil
	case <-time.After(time.Until(deadline)):
		return fields{"ready": false}, nil
	}
}

func evaluate(sdk *harness.CfClient, ask question) interface{} {
	who := &evaluation.Target{
		Identifier: ask.Target.Identifier, Name: ask.Target.Name, Attributes: ask.Target.Attributes,
	}
	switch ask.Kind {
	case "boolean":
		value, _ := sdk.BoolVariation(ask.Flag, who, ask.Default.(bool))
		return value
	case "int":
		value, _ := sdk.NumberVariation(ask.Flag, who, ask.Default.(float64))
		return value
	case "json":
		value, _ := sdk.JSONVariation(ask.Flag, who, types.JSON(ask.Default.(map[string]interface{})))
		return value
	default:
		value, _ := sdk.StringVariation(ask.Flag, who, ask.Default.(string))
		return value
	}
}

func values(sdk *harness.CfClient, ask []question) []interface{} {
	values := []interface{}{}
	for _, one := range ask {
		values = append(values, evaluate(sdk, one))
	}
	return values
}

func until(sdk *harness.CfClient, todo command) fields {
	began := time.Now()
	deadline := began.Add(seconds(todo.Seconds))
	for {
		last := values(sdk, todo.Ask)
		if reflect.DeepEqual(last, todo.Values) {
			return fields{"seen": true}
		}
		if time.Now().After(deadline) {
			return fields{"seen": false, "last": last}
		}
		// Many wait side by side: who waits for long looks seldom.
		if time.Since(began) < time.Second {
			time.Sleep(10 * time.Millisecond)
		} else {
			time.Sleep(100 * time.Millisecond)
		}
	}
}

func seconds(number float64) time.Duration {
	return time.Duration(number * float64(time.Second))
}
