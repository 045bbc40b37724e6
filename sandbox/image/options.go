package image

import (
	"fmt"
	"io"
	"strings"
	"time"
)

// PullPolicy is --pull.
type PullPolicy string

const (
	PullMissing PullPolicy = "missing" // the default of run
	PullAlways  PullPolicy = "always"  // the default of pull
	PullNever   PullPolicy = "never"
	PullNewer   PullPolicy = "newer" // like always; what is here will do if the registry cannot be asked
)

// ParsePullPolicy reads --pull; "" and true are what docker and podman have for missing and always.
func ParsePullPolicy(s string) (PullPolicy, error) {
	switch p := PullPolicy(strings.ToLower(s)); p {
	case "", "ifnotpresent", "ifmissing", "false":
		return PullMissing, nil
	case "true":
		return PullAlways, nil
	case PullMissing, PullAlways, PullNever, PullNewer:
		return p, nil
	}
	return "", fmt.Errorf("pull policy %s: not always, missing, never or newer", quoteShort(s))
}

// PullOptions is what sbx pull and sbx run --pull ask for.
type PullOptions struct {
	Image    string // a name, or TRANSPORT:PATH
	Policy   PullPolicy
	Platform Platform // zero fields are the host's
	Access   Access

	Retry      *int          // --retry; nil is 3
	RetryDelay time.Duration // --retry-delay; 0 is exponential

	Out   io.Writer // progress and notes; nil is silent
	Quiet bool
	Debug func(format string, args ...any) // which road was taken; may be nil
}

func (o PullOptions) debugf(format string, args ...any) {
	if o.Debug != nil {
		o.Debug(format, args...)
	}
}

// Access is how registries are spoken to: whose credentials, which certificates.
type Access struct {
	AuthFile  string // --authfile; read instead of all others
	Creds     string // --creds USER[:PASSWORD]; used instead of any file
	CertDir   string // --cert-dir
	TLSVerify *bool  // --tls-verify; nil is registries.conf's word

	idle time.Duration // of a transfer that stands still; 0 is idleTimeout; for tests
}
