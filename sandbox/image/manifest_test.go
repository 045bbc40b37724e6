//go:build !hot

package image

import (
	"encoding/json"
	"strings"
	"testing"

	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"sbx/sandbox/image/registrytest"
)

func TestReadManifest(t *testing.T) {
	img := smallImage(registrytest.Options{})
	good := string(img.Manifest)
	edit := func(from, to string) string {
		if !strings.Contains(good, from) {
			t.Fatalf("no %s in %s", from, good)
		}
		return strings.Replace(good, from, to, 1)
	}
	index := `{"schemaVersion":2,"mediaType":"` + v1.MediaTypeImageIndex + `","manifests":[]}`
	layer := `{"mediaType":"` + v1.MediaTypeImageLayer + `","digest":"` + string(digestAt(1)) + `","size":1}`
	many := edit(`"layers":[`, `"layers":[`+strings.Repeat(layer+",", maxLayers))
	for name, test := range map[string]struct{ body, told, want string }{
		"fine":                 {good, v1.MediaTypeImageManifest, ""},
		"fine, parameters":     {good, v1.MediaTypeImageManifest + "; charset=utf-8", ""},
		"fine, told nothing":   {good, "", ""},
		"fine, told json":      {good, "application/json", ""},
		"fine, no own type":    {edit(`"mediaType":"`+v1.MediaTypeImageManifest+`",`, ""), v1.MediaTypeImageManifest, ""},
		"fine, no type at all": {edit(`"mediaType":"`+v1.MediaTypeImageManifest+`",`, ""), "", ""},
		"fine, urls and data":  {edit(`"layers":[{`, `"layers":[{"urls":["http://169.254.169.254/"],"data":"eA==",`), "", ""},
		"index":                {index, "", ""},
		"empty":                {"", "", "end of JSON"},
		"not json":             {"<html>", "", "invalid character"},
		"an array":             {"[]", "", "cannot unmarshal"},
		"null":                 {"null", "", "schemaVersion"},
		"nothing in it":        {`{"schemaVersion":2}`, "", "neither"},
		"trailing":             {good + "{}", "", "after top-level"},
		"two things":           {edit(`"layers":`, `"manifests":[],"layers":`), "", "both"},
		"index with config":    {strings.Replace(index, `"manifests"`, `"config":{},"manifests"`, 1), "", "both"},
		"told index":           {good, v1.MediaTypeImageIndex, "came as"},
		"told docker":          {good, dockerManifest, "came as"},
		"index told manifest":  {index, v1.MediaTypeImageManifest, "came as"},
		"untyped, told index":  {edit(`"mediaType":"`+v1.MediaTypeImageManifest+`",`, ""), v1.MediaTypeImageIndex, "content"},
		"says index":           {edit(v1.MediaTypeImageManifest, v1.MediaTypeImageIndex), "", "content"},
		"some other type":      {good, "image/png", "not an image's"},
		"bad type":             {good, ";;", "bad media type"},
		"schema 1":             {`{"schemaVersion":1,"fsLayers":[]}`, "", "schema 1"},
		"schema 1 by type":     {good, "application/vnd.docker.distribution.manifest.v1+prettyjws", "schema 1"},
		"schema 3":             {edit(`"schemaVersion":2`, `"schemaVersion":3`), "", "schemaVersion"},
		"Layers":               {edit(`"layers":`, `"Layers":[],"layers":`), "", "not spelled"},
		"too many layers":      {many, "", "501 layers, more than 499"},
		"bad digest":           {edit(`"digest":"sha256:`, `"digest":"sha256:../`), "", "bad digest"},
		"md5":                  {edit(`"digest":"sha256:`, `"digest":"md5:`), "", "bad digest"},
		"negative size":        {edit(`"size":`, `"size":-`), "", "size"},
		"a chart":              {edit(v1.MediaTypeImageConfig, "application/vnd.cncf.helm.config.v1+json"), "", "not that of a container image"},
		"encrypted":            {edit(v1.MediaTypeImageLayer, v1.MediaTypeImageLayer+"+encrypted"), "", "encrypted"},
		"strange layer":        {edit(v1.MediaTypeImageLayer, "application/zip"), "", "not a layer's"},
	} {
		_, err := readManifest([]byte(test.body), test.told)
		if test.want == "" && err != nil || test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)) {
			t.Errorf("%s: %v; want %q", name, err, test.want)
		}
	}
}

func TestReadImageConfig(t *testing.T) {
	img := smallImage(registrytest.Options{})
	m, err := readManifest(img.Manifest, "")
	if err != nil {
		t.Fatal(err)
	}
	change := func(f func(map[string]any)) string {
		var c map[string]any
		if err := json.Unmarshal(img.Config, &c); err != nil {
			t.Fatal(err)
		}
		f(c)
		return toJSON(c)
	}
	rootfs := func(c map[string]any) map[string]any { return c["rootfs"].(map[string]any) }
	for name, test := range map[string]struct{ body, want string }{
		"fine":            {string(img.Config), ""},
		"not json":        {"x", "config"},
		"null":            {"null", "rootfs type"},
		"no rootfs":       {change(func(c map[string]any) { delete(c, "rootfs") }), "rootfs type"},
		"too few":         {change(func(c map[string]any) { rootfs(c)["diff_ids"] = []string{string(digestAt(1))} }), "1 diff_ids for 2 layers"},
		"null ids":        {change(func(c map[string]any) { rootfs(c)["diff_ids"] = nil }), "0 diff_ids"},
		"bad id":          {change(func(c map[string]any) { rootfs(c)["diff_ids"] = []string{"sha256:..", "x"} }), "bad digest"},
		"Cmd is a string": {change(func(c map[string]any) { c["config"] = map[string]any{"Cmd": "sh"} }), "config"},
		"Env is numbers":  {change(func(c map[string]any) { c["config"] = map[string]any{"Env": []int{1}} }), "config"},
		"User is null":    {change(func(c map[string]any) { c["config"] = map[string]any{"User": nil} }), ""},
	} {
		_, err := readImageConfig([]byte(test.body), m)
		if test.want == "" && err != nil || test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)) {
			t.Errorf("%s: %v; want %q", name, err, test.want)
		}
	}
}

func FuzzReadManifest(f *testing.F) {
	img := smallImage(registrytest.Options{})
	f.Add(img.Manifest, "")
	_, index := registrytest.Index(false, img.Descriptor())
	f.Add(index, v1.MediaTypeImageIndex)
	f.Fuzz(func(t *testing.T, body []byte, told string) {
		m, err := readManifest(body, told)
		if err != nil {
			return
		}
		for _, d := range append(m.Layers, m.Manifests...) {
			if d.Size < 0 || strings.Contains(string(d.Digest), "/") || strings.Contains(string(d.Digest), "..") {
				t.Fatalf("let through: %+v", d)
			}
		}
		if len(m.Layers) > 0 && len(m.Manifests) > 0 {
			t.Fatal("both an image and an index")
		}
	})
}

// An index that a registry serves in the place of its child, and the like.
func TestConfusion(t *testing.T) {
	alone(t, "")
	img := smallImage(registrytest.Options{})
	r := newRegistry(t)
	r.PutImage("x", "", img)
	for name, test := range map[string]struct {
		change func(*v1.Descriptor)
		want   string
	}{
		"size":            {func(d *v1.Descriptor) { d.Size++ }, "the index says"},
		"enormous":        {func(d *v1.Descriptor) { d.Size = 1 << 40 }, "more than"},
		"type":            {func(d *v1.Descriptor) { d.MediaType = dockerManifest }, "the index says"},
		"claims an index": {func(d *v1.Descriptor) { d.MediaType = v1.MediaTypeImageIndex }, "the index says"},
		"digest":          {func(d *v1.Descriptor) { d.Digest = "sha256:../../../etc/passwd" }, "bad digest"},
		"absent":          {func(d *v1.Descriptor) { d.Digest = digestAt(9) }, "manifest unknown"},
	} {
		d := img.Descriptor()
		test.change(&d)
		mediaType, body := registrytest.Index(false, d)
		r.PutManifest("x", "latest", mediaType, body)
		_, err := Pull(t.Context(), newFakeStore(t), options(r, "x"))
		if err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: %v; want %q", name, err, test.want)
		}
	}
	r.PutManifest("x", "huge", v1.MediaTypeImageManifest, []byte(strings.Repeat(" ", 5<<20)))
	_, err := Pull(t.Context(), newFakeStore(t), options(r, "x:huge"))
	wantError(t, err, "larger than")
}
