// Do everything that @azure/container-registry can do, and print what came of it as JSON.
//
// usage: node flow.mjs ENDPOINT REPOSITORY [TOKEN]
//
// Without a token the client is anonymous. NODE_EXTRA_CA_CERTS names the certificate to trust, and
// SDK the folder in which npm has installed the package. test_azure_sdks.py says what is expected.

import { createRequire } from "node:module";

const require = createRequire(`${process.env.SDK}/`);
const { ContainerRegistryClient, ContainerRegistryContentClient } =
  require("@azure/container-registry");

const [endpoint, name, token] = process.argv.slice(2);
const OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json";
const PAGE = { maxPageSize: 2 };

const credential = token && {
  getToken: async () => ({ token, expiresOnTimestamp: Date.now() + 3_600_000 }),
};
const registry = new ContainerRegistryClient(endpoint, ...(credential ? [credential] : []));
const content = new ContainerRegistryContentClient(
  endpoint, name, ...(credential ? [credential] : []));
const repository = registry.getRepository(name);

async function describe(mediaType, text) {
  const { digest, sizeInBytes: size } = await content.uploadBlob(Buffer.from(text));
  return { mediaType, digest, size };
}

async function push(number, tag) {
  const config = await describe("application/vnd.oci.image.config.v1+json",
    JSON.stringify({ architecture: "amd64", os: "linux", author: `${number}` }));
  const layer = await describe("application/vnd.oci.image.layer.v1.tar",
    `layer ${number} of ${name}`);
  const document = { schemaVersion: 2, mediaType: OCI_MANIFEST, config, layers: [layer] };
  const { digest } = await content.setManifest(document, { tag });
  return { digest, document };
}

async function all(pages, read) {
  const items = [];
  for await (const page of pages) items.push(...page.map(read));
  return items;
}

async function statusOf(promise) {
  try {
    await promise;
  } catch (error) {
    if (error.statusCode === undefined) throw error;
    return error.statusCode;
  }
  return 0;
}

async function text(stream) {
  const pieces = [];
  for await (const piece of stream) pieces.push(piece);
  return Buffer.concat(pieces).toString();
}

const flags = (p) => [p.canDelete, p.canWrite, p.canRead, p.canList];
const image = (reference) => repository.getArtifact(reference);
// Of whatever artifact they are asked, the SDK lists the tags of the whole repository.
const tags = (order) =>
  all(image("latest").listTagProperties({ order }).byPage(PAGE), (tag) => tag.name);
const manifests = (order) =>
  all(repository.listManifestProperties({ order }).byPage(PAGE), (manifest) => manifest.digest);

const pushed = [];
for (const [number, tag] of [..."cab"].entries()) pushed.push(await push(number, tag));
const digests = pushed.map(({ digest }) => digest);
const { document } = pushed[2];
await content.setManifest(document, { tag: "latest" });

const found = {
  digests,
  repositories: await all(registry.listRepositoryNames().byPage({ maxPageSize: 1 }), (it) => it),
  tags: {
    "by name": await tags(),
    "oldest first": await tags("LastUpdatedOnAscending"),
    "newest first": await tags("LastUpdatedOnDescending"),
  },
  manifests: {
    "by digest": await manifests(),
    "oldest first": await manifests("LastUpdatedOnAscending"),
    "newest first": await manifests("LastUpdatedOnDescending"),
  },
};

const properties = await repository.getProperties();
found.repository = {
  name: properties.name,
  manifests: properties.manifestCount,
  tags: properties.tagCount,
  flags: flags(properties),
};
const tag = await image("latest").getTagProperties("latest");
found.tag = { name: tag.name, digest: tag.digest, flags: flags(tag) };
const manifest = await image("latest").getManifestProperties();
found.manifest = {
  digest: manifest.digest,
  architecture: manifest.architecture,
  os: manifest.operatingSystem,
  size: manifest.sizeInBytes,
  tags: manifest.tags,
  flags: flags(manifest),
};

const pulled = await content.getManifest("latest");
const layer = pulled.manifest.layers[0].digest;
const config = await content.downloadBlob(pulled.manifest.config.digest);
found.pulled = {
  digest: pulled.digest,
  "media type": pulled.mediaType,
  config: await text(config.content),
  layer: await text((await content.downloadBlob(layer)).content),
};

const locked = { canWrite: false, canDelete: false };
found.changed = {
  tag: flags(await image("a").updateTagProperties("a", locked)),
  manifest: flags(await image(digests[0]).updateManifestProperties(
    { canWrite: false, canRead: false, canList: false })),
};
found.refused = {
  untag: await statusOf(image("a").deleteTag("a")),
  "move tag": await statusOf(content.setManifest(document, { tag: "a" })),
  "delete manifest of tag": await statusOf(image(digests[1]).delete()),
  "delete manifest": await statusOf(content.deleteManifest(digests[0])),
  "pull manifest": await statusOf(content.getManifest(digests[0])),
  "delete repository": await statusOf(repository.delete()),
};
await image("a").updateTagProperties("a", { canWrite: true, canDelete: true, canList: false });
found.hidden = { tags: await tags(), manifests: await manifests() };
await image("a").updateTagProperties("a", { canList: true });
await image(digests[0]).updateManifestProperties({ canWrite: true, canRead: true, canList: true });
found.changed.repository = flags(await repository.updateProperties({ canWrite: false }));
found["refused in a locked repository"] = {
  push: await statusOf(content.setManifest(document, { tag: "new" })),
  untag: await statusOf(image("c").deleteTag("c")),
  "delete manifest": await statusOf(image(digests[0]).delete()),
  "delete repository": await statusOf(registry.deleteRepository(name)),
};
found.unlocked = flags(await repository.updateProperties({ canWrite: true }));

const gone = {};
await image("c").deleteTag("c");
await image("c").deleteTag("c");
gone.tag = await statusOf(image("c").getTagProperties("c"));
await image(digests[0]).delete();
await image(digests[0]).delete();
gone.manifest = await statusOf(image(digests[0]).getManifestProperties());
const unused = pushed[0].document.layers[0].digest;
await content.deleteBlob(unused);
gone.blob = await statusOf(content.downloadBlob(unused));
await repository.delete();
await repository.delete();
gone.repository = await statusOf(repository.getProperties());
found.gone = gone;

process.stdout.write(JSON.stringify(found));
