// Command flow does everything that azcontainerregistry can do, and prints what came of it as JSON.
//
// usage: flow ENDPOINT REPOSITORY [TOKEN]
//
// Without a token the client is anonymous. SSL_CERT_FILE names the certificate to trust; with
// TELEMETRY=off, the SDK does not say in its User-Agent what it is.
// test_azure_sdks.py says what is expected.
package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"os"
	"strings"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/streaming"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/to"
	acr "github.com/Azure/azure-sdk-for-go/sdk/containers/azcontainerregistry"
)

const (
	ociManifest = acr.ContentTypeApplicationVndOciImageManifestV1JSON
	ociConfig   = "application/vnd.oci.image.config.v1+json"
	ociLayer    = "application/vnd.oci.image.layer.v1.tar"
	page        = 2
)

type object = map[string]any

// staticCredential returns the token that it holds, to whoever asks.
type staticCredential string

func (token staticCredential) GetToken(context.Context, policy.TokenRequestOptions) (azcore.AccessToken, error) {
	return azcore.AccessToken{Token: string(token), ExpiresOn: time.Now().Add(time.Hour)}, nil
}

type manifest struct {
	MediaType string
	Config    struct{ Digest string }
	Layers    []struct{ Digest string }
}

// parse reads the document of an image.
func parse(text []byte) (document manifest) {
	must(0, json.Unmarshal(text, &document))
	return document
}

type flow struct {
	ctx      context.Context
	name     string
	registry *acr.Client
	blobs    *acr.BlobClient
}

// must ends the program with the error of a call, or returns its value.
func must[T any](value T, err error) T {
	if err != nil {
		log.Panic(err)
	}
	return value
}

// statusOf returns the status that a call failed with, and 0 if it succeeded.
func statusOf[T any](_ T, err error) int {
	if err == nil {
		return 0
	}
	var refused *azcore.ResponseError
	if !errors.As(err, &refused) {
		log.Panic(err)
	}
	return refused.StatusCode
}

// upload sends a blob in two chunks, each with its range, and returns its digest.
func (f *flow) upload(text string) string {
	half, start := len(text)/2, 0
	location := *must(f.blobs.StartUpload(f.ctx, f.name, nil)).Location
	digest := acr.NewBlobDigestCalculator()
	for _, chunk := range []string{text[:half], text[half:]} {
		end := start + len(chunk)
		ranges := acr.BlobClientUploadChunkOptions{RangeStart: to.Ptr(int32(start)), RangeEnd: to.Ptr(int32(end - 1))}
		location = *must(f.blobs.UploadChunk(f.ctx, location, strings.NewReader(chunk), digest, &ranges)).Location
		start = end
	}
	return *must(f.blobs.CompleteUpload(f.ctx, location, digest, nil)).DockerContentDigest
}

func (f *flow) describe(mediaType, text string) object {
	return object{"mediaType": mediaType, "digest": f.upload(text), "size": len(text)}
}

func (f *flow) image(number int) []byte {
	config := fmt.Sprintf(`{"architecture":"amd64","os":"linux","author":"%d"}`, number)
	return must(json.Marshal(object{
		"schemaVersion": 2,
		"mediaType":     ociManifest,
		"config":        f.describe(ociConfig, config),
		"layers":        []object{f.describe(ociLayer, fmt.Sprintf("layer %d of %s", number, f.name))},
	}))
}

func (f *flow) push(tag string, manifest []byte) (acr.ClientUploadManifestResponse, error) {
	body := streaming.NopCloser(bytes.NewReader(manifest))
	return f.registry.UploadManifest(f.ctx, f.name, tag, ociManifest, body, nil)
}

func (f *flow) tags(order acr.ArtifactTagOrderBy, digest *string) []string {
	found := []string{}
	options := acr.ClientListTagsOptions{MaxNum: to.Ptr[int32](page), OrderBy: &order, Digest: digest}
	for pager := f.registry.NewListTagsPager(f.name, &options); pager.More(); {
		for _, tag := range must(pager.NextPage(f.ctx)).Tags {
			found = append(found, *tag.Name)
		}
	}
	return found
}

func (f *flow) manifests(order acr.ArtifactManifestOrderBy) []string {
	found := []string{}
	options := acr.ClientListManifestsOptions{MaxNum: to.Ptr[int32](page), OrderBy: &order}
	for pager := f.registry.NewListManifestsPager(f.name, &options); pager.More(); {
		for _, manifest := range must(pager.NextPage(f.ctx)).Attributes {
			found = append(found, *manifest.Digest)
		}
	}
	return found
}

func (f *flow) repositories() []string {
	found := []string{}
	options := acr.ClientListRepositoriesOptions{MaxNum: to.Ptr[int32](1)}
	for pager := f.registry.NewListRepositoriesPager(&options); pager.More(); {
		for _, name := range must(pager.NextPage(f.ctx)).Names {
			found = append(found, *name)
		}
	}
	return found
}

func (f *flow) download(digest string) string {
	blob := must(f.blobs.GetBlob(f.ctx, f.name, digest, nil))
	reader := must(acr.NewDigestValidationReader(digest, blob.BlobData))
	return string(must(io.ReadAll(reader)))
}

func (f *flow) changeTag(tag string, value acr.TagWriteableProperties) []bool {
	options := acr.ClientUpdateTagPropertiesOptions{Value: &value}
	answer := must(f.registry.UpdateTagProperties(f.ctx, f.name, tag, &options))
	p := answer.Tag.ChangeableAttributes
	return []bool{*p.CanDelete, *p.CanWrite, *p.CanRead, *p.CanList}
}

func (f *flow) changeManifest(digest string, value acr.ManifestWriteableProperties) []bool {
	options := acr.ClientUpdateManifestPropertiesOptions{Value: &value}
	answer := must(f.registry.UpdateManifestProperties(f.ctx, f.name, digest, &options))
	p := answer.Manifest.ChangeableAttributes
	return []bool{*p.CanDelete, *p.CanWrite, *p.CanRead, *p.CanList}
}

func (f *flow) changeRepository(value acr.RepositoryWriteableProperties) []bool {
	options := acr.ClientUpdateRepositoryPropertiesOptions{Value: &value}
	answer := must(f.registry.UpdateRepositoryProperties(f.ctx, f.name, &options))
	p := answer.ChangeableAttributes
	return []bool{*p.CanDelete, *p.CanWrite, *p.CanRead, *p.CanList}
}

// uploads looks at an upload after a chunk without a range, cancels it, and mounts a blob from the repository.
func (f *flow) uploads(layer string) object {
	location := *must(f.blobs.StartUpload(f.ctx, f.name, nil)).Location
	digest := acr.NewBlobDigestCalculator()
	chunk := strings.NewReader("0123456789")
	location = *must(f.blobs.UploadChunk(f.ctx, location, chunk, digest, nil)).Location
	status := must(f.blobs.GetUploadStatus(f.ctx, location, nil))
	must(f.blobs.CancelUpload(f.ctx, location, nil))
	target := f.name + "-mounted"
	mounted := must(f.blobs.MountBlob(f.ctx, target, f.name, layer, nil))
	exists := must(f.blobs.CheckBlobExists(f.ctx, target, layer, nil))
	part := must(f.blobs.GetChunk(f.ctx, target, layer, "bytes=0-4", nil))
	return object{
		"range":     *status.Range,
		"cancelled": statusOf(f.blobs.GetUploadStatus(f.ctx, location, nil)),
		"mounted":   *mounted.DockerContentDigest == layer,
		"size":      *exists.ContentLength,
		"part":      string(must(io.ReadAll(part.ChunkData))),
	}
}

func (f *flow) run() object {
	ctx, name, registry := f.ctx, f.name, f.registry
	digests := []string{}
	var first, last []byte
	for number, tag := range []string{"c", "a", "b"} {
		last = f.image(number)
		if number == 0 {
			first = last
		}
		digests = append(digests, *must(f.push(tag, last)).DockerContentDigest)
	}
	must(f.push("latest", last))
	latest := &digests[2]

	properties := must(registry.GetRepositoryProperties(ctx, name, nil))
	tag := must(registry.GetTagProperties(ctx, name, "latest", nil)).Tag
	manifest := must(registry.GetManifestProperties(ctx, name, digests[2], nil)).Manifest
	allowed := properties.ChangeableAttributes
	tagAllowed := tag.ChangeableAttributes
	manifestAllowed := manifest.ChangeableAttributes

	pulled := must(registry.GetManifest(ctx, name, "latest", &acr.ClientGetManifestOptions{Accept: to.Ptr(string(ociManifest))}))
	reader := must(acr.NewDigestValidationReader(*pulled.DockerContentDigest, pulled.ManifestData))
	document := parse(must(io.ReadAll(reader)))
	layer := document.Layers[0].Digest

	found := object{
		"digests":      digests,
		"repositories": f.repositories(),
		"tags": object{
			"by name":      f.tags(acr.ArtifactTagOrderByNone, nil),
			"oldest first": f.tags(acr.ArtifactTagOrderByLastUpdatedOnAscending, nil),
			"newest first": f.tags(acr.ArtifactTagOrderByLastUpdatedOnDescending, nil),
		},
		"tags of the last": object{
			"by name":      f.tags(acr.ArtifactTagOrderByNone, latest),
			"oldest first": f.tags(acr.ArtifactTagOrderByLastUpdatedOnAscending, latest),
			"newest first": f.tags(acr.ArtifactTagOrderByLastUpdatedOnDescending, latest),
		},
		"manifests": object{
			"by digest":    f.manifests(acr.ArtifactManifestOrderByNone),
			"oldest first": f.manifests(acr.ArtifactManifestOrderByLastUpdatedOnAscending),
			"newest first": f.manifests(acr.ArtifactManifestOrderByLastUpdatedOnDescending),
		},
		"repository": object{
			"name":      *properties.Name,
			"manifests": *properties.ManifestCount,
			"tags":      *properties.TagCount,
			"flags":     []bool{*allowed.CanDelete, *allowed.CanWrite, *allowed.CanRead, *allowed.CanList},
		},
		"tag": object{
			"name":   *tag.Name,
			"digest": *tag.Digest,
			"flags":  []bool{*tagAllowed.CanDelete, *tagAllowed.CanWrite, *tagAllowed.CanRead, *tagAllowed.CanList},
		},
		"manifest": object{
			"digest":       *manifest.Digest,
			"architecture": *manifest.Architecture,
			"os":           *manifest.OperatingSystem,
			"size":         *manifest.Size,
			"tags":         manifest.Tags,
			"flags":        []bool{*manifestAllowed.CanDelete, *manifestAllowed.CanWrite, *manifestAllowed.CanRead, *manifestAllowed.CanList},
		},
		"pulled": object{
			"digest":     *pulled.DockerContentDigest,
			"media type": document.MediaType,
			"config":     f.download(document.Config.Digest),
			"layer":      f.download(layer),
		},
		"uploads": f.uploads(layer),
	}

	no, yes := to.Ptr(false), to.Ptr(true)
	changed := object{
		"tag":      f.changeTag("a", acr.TagWriteableProperties{CanWrite: no, CanDelete: no}),
		"manifest": f.changeManifest(digests[0], acr.ManifestWriteableProperties{CanWrite: no, CanRead: no, CanList: no}),
	}
	found["refused"] = object{
		"untag":                  statusOf(registry.DeleteTag(ctx, name, "a", nil)),
		"move tag":               statusOf(f.push("a", last)),
		"delete manifest of tag": statusOf(registry.DeleteManifest(ctx, name, digests[1], nil)),
		"delete manifest":        statusOf(registry.DeleteManifest(ctx, name, digests[0], nil)),
		"pull manifest":          statusOf(registry.GetManifest(ctx, name, digests[0], nil)),
		"delete repository":      statusOf(registry.DeleteRepository(ctx, name, nil)),
	}
	f.changeTag("a", acr.TagWriteableProperties{CanWrite: yes, CanDelete: yes, CanList: no})
	found["hidden"] = object{
		"tags":      f.tags(acr.ArtifactTagOrderByNone, nil),
		"manifests": f.manifests(acr.ArtifactManifestOrderByNone),
	}
	f.changeTag("a", acr.TagWriteableProperties{CanList: yes})
	f.changeManifest(digests[0], acr.ManifestWriteableProperties{CanWrite: yes, CanRead: yes, CanList: yes})
	changed["repository"] = f.changeRepository(acr.RepositoryWriteableProperties{CanWrite: no})
	found["changed"] = changed
	found["refused in a locked repository"] = object{
		"push":              statusOf(f.push("new", last)),
		"untag":             statusOf(registry.DeleteTag(ctx, name, "c", nil)),
		"delete manifest":   statusOf(registry.DeleteManifest(ctx, name, digests[0], nil)),
		"delete repository": statusOf(registry.DeleteRepository(ctx, name, nil)),
	}
	found["unlocked"] = f.changeRepository(acr.RepositoryWriteableProperties{CanWrite: yes})

	gone := object{}
	must(registry.DeleteTag(ctx, name, "c", nil))
	must(registry.DeleteTag(ctx, name, "c", nil))
	gone["tag"] = statusOf(registry.GetTagProperties(ctx, name, "c", nil))
	must(registry.DeleteManifest(ctx, name, digests[0], nil))
	must(registry.DeleteManifest(ctx, name, digests[0], nil))
	gone["manifest"] = statusOf(registry.GetManifestProperties(ctx, name, digests[0], nil))
	unused := parse(first).Layers[0].Digest
	must(f.blobs.DeleteBlob(ctx, name, unused, nil))
	gone["blob"] = statusOf(f.blobs.GetBlob(ctx, name, unused, nil))
	must(registry.DeleteRepository(ctx, name, nil))
	must(registry.DeleteRepository(ctx, name, nil))
	gone["repository"] = statusOf(registry.GetRepositoryProperties(ctx, name, nil))
	found["gone"] = gone
	return found
}

func main() {
	var credential azcore.TokenCredential
	if len(os.Args) > 3 {
		credential = staticCredential(os.Args[3])
	}
	var options azcore.ClientOptions
	options.Telemetry.Disabled = os.Getenv("TELEMETRY") == "off"
	f := &flow{
		ctx:      context.Background(),
		name:     os.Args[2],
		registry: must(acr.NewClient(os.Args[1], credential, &acr.ClientOptions{ClientOptions: options})),
		blobs:    must(acr.NewBlobClient(os.Args[1], credential, &acr.BlobClientOptions{ClientOptions: options})),
	}
	must(0, json.NewEncoder(os.Stdout).Encode(f.run()))
}
