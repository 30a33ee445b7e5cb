// An application that tells a hub how its jobs get on, with nothing but the standard library.
package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"math"
	mathrand "math/rand"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"time"
)

func main() {
	hub := NewHub(os.Getenv("SSE_HUB_URL"), os.Getenv("SSE_HUB_TOKEN"))

	http.HandleFunc("POST /jobs", func(writer http.ResponseWriter, request *http.Request) {
		jobID := rand.Text()
		if err := hub.Progress(request.Context(), jobID, 0, "Waiting"); err != nil {
			http.Error(writer, err.Error(), http.StatusBadGateway)
			return
		}
		go summarise(hub, jobID)
		writer.Header().Set("Content-Type", "application/json")
		json.NewEncoder(writer).Encode(map[string]string{"job_id": jobID})
	})
	http.HandleFunc("GET /{$}", func(writer http.ResponseWriter, request *http.Request) {
		http.ServeFile(writer, request, "index.html")
	})
	log.Fatal(http.ListenAndServe("127.0.0.1:5000", nil))
}

func summarise(hub *Hub, jobID string) {
	ctx := context.Background()
	for page := 1; page <= 10; page++ {
		time.Sleep(200 * time.Millisecond) // the work
		if err := hub.Progress(ctx, jobID, float64(10*page), fmt.Sprintf("Page %d of 10", page)); err != nil {
			log.Print(err)
			hub.Error(ctx, jobID, err)
			return
		}
	}
	if err := hub.Complete(ctx, jobID, map[string]int{"pages": 10}); err != nil {
		log.Print(err)
	}
}

// Hub publishes to an sse-server hub. All goroutines may use it at the same time.
type Hub struct {
	url    string
	token  string
	client *http.Client
}

// HubError is what the hub says when it refuses; Status is 0 when it did not answer.
type HubError struct {
	Status     int
	Detail     string
	retryAfter time.Duration
}

func (err *HubError) Error() string { return err.Detail }

// NewHub is the hub at a URL, or else at http://127.0.0.1:8080.
func NewHub(url, token string) *Hub {
	if url == "" {
		url = "http://127.0.0.1:8080"
	}
	return &Hub{url, token, &http.Client{Timeout: 5 * time.Second}}
}

// Publish publishes an event once, however often it has to be sent.
func (hub *Hub) Publish(ctx context.Context, eventType string, data any, topic string) error {
	return hub.post(ctx, "/events", map[string]any{"event_type": eventType, "data": data, "topic": topic, "id": rand.Text()})
}

// Progress says how far a job is. A job that the hub does not know is created.
func (hub *Hub) Progress(ctx context.Context, jobID string, progress float64, message string) error {
	return hub.update(ctx, jobID, "progress", map[string]any{"progress": progress, "message": message})
}

// Complete says that a job is done, and with what.
func (hub *Hub) Complete(ctx context.Context, jobID string, result any) error {
	return hub.update(ctx, jobID, "complete", map[string]any{"result": result})
}

// Error says that a job has failed, and why.
func (hub *Hub) Error(ctx context.Context, jobID string, why error) error {
	return hub.update(ctx, jobID, "error", map[string]any{"error": why.Error()})
}

func (hub *Hub) update(ctx context.Context, jobID, what string, body any) error {
	path := "/jobs/" + url.PathEscape(jobID) + "/" + what
	err := hub.post(ctx, path, body)
	if statusOf(err) != http.StatusNotFound {
		return err
	}
	// Conflict: somebody else was faster.
	if err := hub.post(ctx, "/jobs", map[string]any{"job_id": jobID}); err != nil && statusOf(err) != http.StatusConflict {
		return err
	}
	return hub.post(ctx, path, body)
}

// One request, tried again where that may help.
func (hub *Hub) post(ctx context.Context, path string, body any) error {
	content, err := json.Marshal(body)
	if err != nil {
		return err
	}
	for attempt := 1.0; ; attempt++ {
		refusal := hub.send(ctx, path, content)
		if refusal == nil {
			return nil
		}
		if attempt == 4 || !isTemporary(refusal.Status) {
			return refusal
		}
		wait := refusal.retryAfter + time.Duration(mathrand.Float64()*100*math.Exp2(attempt))*time.Millisecond
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return refusal
		}
	}
}

func (hub *Hub) send(ctx context.Context, path string, content []byte) *HubError {
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, hub.url+path, bytes.NewReader(content))
	if err != nil {
		return &HubError{Status: -1, Detail: err.Error()}
	}
	request.Header.Set("Content-Type", "application/json")
	if hub.token != "" {
		request.Header.Set("Authorization", "Bearer "+hub.token)
	}
	answer, err := hub.client.Do(request)
	if err != nil {
		return &HubError{Detail: err.Error()}
	}
	defer answer.Body.Close()
	// To the end, so that the connection is used again.
	said, err := io.ReadAll(io.LimitReader(answer.Body, 1<<20))
	if err != nil {
		return &HubError{Detail: err.Error()}
	}
	if answer.StatusCode < 300 {
		return nil
	}
	refusal := &HubError{Status: answer.StatusCode, Detail: answer.Status}
	var problem struct{ Detail string }
	if json.Unmarshal(said, &problem) == nil && problem.Detail != "" {
		refusal.Detail = problem.Detail
	}
	seconds, _ := strconv.Atoi(answer.Header.Get("Retry-After"))
	refusal.retryAfter = time.Duration(seconds) * time.Second
	return refusal
}

func statusOf(err error) int {
	var refusal *HubError
	if errors.As(err, &refusal) {
		return refusal.Status
	}
	return 0
}

func isTemporary(status int) bool {
	switch status {
	case 0, 408, 425, 429, 500, 502, 503, 504:
		return true
	}
	return false
}
