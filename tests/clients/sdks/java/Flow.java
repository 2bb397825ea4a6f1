// Do everything that azure-containers-containerregistry can do, and print what came of it as JSON.
//
// usage: java -cp 'FOLDER/*' Flow.java ENDPOINT REPOSITORY [TOKEN]
//
// Without a token the client is anonymous. test_azure_sdks.py says what is expected.

import com.azure.containers.containerregistry.ContainerRegistryClient;
import com.azure.containers.containerregistry.ContainerRegistryClientBuilder;
import com.azure.containers.containerregistry.ContainerRegistryContentClient;
import com.azure.containers.containerregistry.ContainerRegistryContentClientBuilder;
import com.azure.containers.containerregistry.ContainerRepository;
import com.azure.containers.containerregistry.models.ArtifactManifestOrder;
import com.azure.containers.containerregistry.models.ArtifactManifestProperties;
import com.azure.containers.containerregistry.models.ArtifactTagOrder;
import com.azure.containers.containerregistry.models.ArtifactTagProperties;
import com.azure.containers.containerregistry.models.ContainerRepositoryProperties;
import com.azure.containers.containerregistry.models.OciDescriptor;
import com.azure.containers.containerregistry.models.OciImageManifest;
import com.azure.core.credential.AccessToken;
import com.azure.core.credential.TokenCredential;
import com.azure.core.exception.HttpResponseException;
import com.azure.core.http.rest.PagedIterable;
import com.azure.core.util.BinaryData;
import java.io.ByteArrayOutputStream;
import java.nio.channels.Channels;
import java.time.OffsetDateTime;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.function.Function;
import reactor.core.publisher.Mono;

public class Flow {
    static final String OCI_CONFIG = "application/vnd.oci.image.config.v1+json";
    static final String OCI_LAYER = "application/vnd.oci.image.layer.v1.tar";
    static final int PAGE = 2;

    final String name;
    final ContainerRegistryClient registry;
    final ContainerRegistryContentClient content;
    final ContainerRepository repository;

    Flow(String endpoint, String name, String token) {
        this.name = name;
        TokenCredential credential = token == null ? null
            : request -> Mono.just(new AccessToken(token, OffsetDateTime.now().plusHours(1)));
        ContainerRegistryClientBuilder client =
            new ContainerRegistryClientBuilder().endpoint(endpoint);
        ContainerRegistryContentClientBuilder contentClient =
            new ContainerRegistryContentClientBuilder().endpoint(endpoint).repositoryName(name);
        if (credential != null) {
            client.credential(credential);
            contentClient.credential(credential);
        }
        registry = client.buildClient();
        content = contentClient.buildClient();
        repository = registry.getRepository(name);
    }

    public static void main(String[] arguments) {
        String token = arguments.length > 2 ? arguments[2] : null;
        Map<String, Object> found = new Flow(arguments[0], arguments[1], token).run();
        System.out.print(BinaryData.fromObject(found));
        System.exit(0);
    }

    OciDescriptor describe(String mediaType, String text) {
        String digest = content.uploadBlob(BinaryData.fromString(text)).getDigest();
        return new OciDescriptor().setMediaType(mediaType).setDigest(digest)
            .setSizeInBytes((long) text.length());
    }

    OciImageManifest image(int number) {
        String config = "{\"architecture\":\"amd64\",\"os\":\"linux\",\"author\":\"" + number + "\"}";
        return new OciImageManifest()
            .setSchemaVersion(2)
            .setConfiguration(describe(OCI_CONFIG, config))
            .setLayers(List.of(describe(OCI_LAYER, "layer " + number + " of " + name)));
    }

    static int statusOf(Runnable call) {
        try {
            call.run();
        } catch (HttpResponseException error) {
            return error.getResponse().getStatusCode();
        }
        return 0;
    }

    static <T> List<String> all(PagedIterable<T> items, Function<T, String> read) {
        List<String> found = new ArrayList<>();
        items.iterableByPage(PAGE).forEach(
            page -> page.getElements().forEach(item -> found.add(read.apply(item))));
        return found;
    }

    List<String> tags(String reference, ArtifactTagOrder order) {
        return all(repository.getArtifact(reference).listTagProperties(order),
            ArtifactTagProperties::getName);
    }

    List<String> manifests(ArtifactManifestOrder order) {
        return all(repository.listManifestProperties(order), ArtifactManifestProperties::getDigest);
    }

    ArtifactTagProperties change(String tag, ArtifactTagProperties properties) {
        return repository.getArtifact(tag).updateTagProperties(tag, properties);
    }

    String download(String digest) {
        ByteArrayOutputStream stream = new ByteArrayOutputStream();
        content.downloadStream(digest, Channels.newChannel(stream));
        return stream.toString();
    }

    static List<Boolean> flags(ContainerRepositoryProperties p) {
        return Arrays.asList(
            p.isDeleteEnabled(), p.isWriteEnabled(), p.isReadEnabled(), p.isListEnabled());
    }

    static List<Boolean> flags(ArtifactTagProperties p) {
        return Arrays.asList(
            p.isDeleteEnabled(), p.isWriteEnabled(), p.isReadEnabled(), p.isListEnabled());
    }

    static List<Boolean> flags(ArtifactManifestProperties p) {
        return Arrays.asList(
            p.isDeleteEnabled(), p.isWriteEnabled(), p.isReadEnabled(), p.isListEnabled());
    }

    Map<String, Object> run() {
        Map<String, Object> found = new LinkedHashMap<>();
        List<String> digests = new ArrayList<>();
        List<OciImageManifest> images = new ArrayList<>();
        String[] names = {"c", "a", "b"};
        for (int number = 0; number < names.length; number++) {
            images.add(image(number));
            digests.add(content.setManifest(images.get(number), names[number]).getDigest());
        }
        OciImageManifest last = images.get(2);
        content.setManifest(last, "latest");
        found.put("digests", digests);
        found.put("repositories", registry.listRepositoryNames().stream().toList());
        found.put("tags of the last", Map.of(
            "by name", tags("latest", ArtifactTagOrder.NONE),
            "oldest first", tags("latest", ArtifactTagOrder.LAST_UPDATED_ON_ASCENDING),
            "newest first", tags("latest", ArtifactTagOrder.LAST_UPDATED_ON_DESCENDING)));
        found.put("manifests", Map.of(
            "by digest", manifests(ArtifactManifestOrder.NONE),
            "oldest first", manifests(ArtifactManifestOrder.LAST_UPDATED_ON_ASCENDING),
            "newest first", manifests(ArtifactManifestOrder.LAST_UPDATED_ON_DESCENDING)));

        ContainerRepositoryProperties properties = repository.getProperties();
        found.put("repository", Map.of(
            "name", properties.getName(),
            "manifests", properties.getManifestCount(),
            "tags", properties.getTagCount(),
            "flags", flags(properties)));
        ArtifactTagProperties tag = repository.getArtifact("latest").getTagProperties("latest");
        found.put("tag", Map.of(
            "name", tag.getName(), "digest", tag.getDigest(), "flags", flags(tag)));
        ArtifactManifestProperties manifest =
            repository.getArtifact("latest").getManifestProperties();
        found.put("manifest", Map.of(
            "digest", manifest.getDigest(),
            "architecture", manifest.getArchitecture().toString(),
            "os", manifest.getOperatingSystem().toString(),
            "size", manifest.getSizeInBytes(),
            "tags", manifest.getTags(),
            "flags", flags(manifest)));

        var pulled = content.getManifest("latest");
        OciImageManifest document = pulled.getManifest().toObject(OciImageManifest.class);
        String layer = document.getLayers().get(0).getDigest();
        found.put("pulled", Map.of(
            "digest", pulled.getDigest(),
            "media type", pulled.getManifestMediaType().toString(),
            "config", download(document.getConfiguration().getDigest()),
            "layer", download(layer)));

        Map<String, Object> changed = new LinkedHashMap<>();
        changed.put("tag", flags(change("a",
            new ArtifactTagProperties().setWriteEnabled(false).setDeleteEnabled(false))));
        changed.put("manifest", flags(repository.getArtifact(digests.get(0))
            .updateManifestProperties(new ArtifactManifestProperties()
                .setWriteEnabled(false).setReadEnabled(false).setListEnabled(false))));
        found.put("changed", changed);
        found.put("refused", Map.of(
            "untag", statusOf(() -> repository.getArtifact("a").deleteTag("a")),
            "move tag", statusOf(() -> content.setManifest(last, "a")),
            "delete manifest of tag",
            statusOf(() -> repository.getArtifact(digests.get(1)).delete()),
            "delete manifest", statusOf(() -> content.deleteManifest(digests.get(0))),
            "pull manifest", statusOf(() -> content.getManifest(digests.get(0))),
            "delete repository", statusOf(repository::delete)));
        change("a", new ArtifactTagProperties()
            .setWriteEnabled(true).setDeleteEnabled(true).setListEnabled(false));
        found.put("hidden", Map.of(
            "tags", tags("a", ArtifactTagOrder.NONE),
            "manifests", manifests(ArtifactManifestOrder.NONE)));
        change("a", new ArtifactTagProperties().setListEnabled(true));
        repository.getArtifact(digests.get(0)).updateManifestProperties(
            new ArtifactManifestProperties()
                .setWriteEnabled(true).setReadEnabled(true).setListEnabled(true));
        changed.put("repository", flags(repository.updateProperties(
            new ContainerRepositoryProperties().setWriteEnabled(false))));
        found.put("refused in a locked repository", Map.of(
            "push", statusOf(() -> content.setManifest(last, "new")),
            "untag", statusOf(() -> repository.getArtifact("c").deleteTag("c")),
            "delete manifest", statusOf(() -> repository.getArtifact(digests.get(0)).delete()),
            "delete repository", statusOf(() -> registry.deleteRepository(name))));
        found.put("unlocked", flags(repository.updateProperties(
            new ContainerRepositoryProperties().setWriteEnabled(true))));

        Map<String, Object> gone = new LinkedHashMap<>();
        repository.getArtifact("c").deleteTag("c");
        repository.getArtifact("c").deleteTag("c");
        gone.put("tag", statusOf(() -> repository.getArtifact("c").getTagProperties("c")));
        repository.getArtifact(digests.get(0)).delete();
        repository.getArtifact(digests.get(0)).delete();
        gone.put("manifest", statusOf(
            () -> repository.getArtifact(digests.get(0)).getManifestProperties()));
        String unused = images.get(0).getLayers().get(0).getDigest();
        content.deleteBlob(unused);
        gone.put("blob", statusOf(() -> download(unused)));
        repository.delete();
        repository.delete();
        gone.put("repository", statusOf(repository::getProperties));
        found.put("gone", gone);
        return found;
    }
}
