// What programs in JavaScript do to a cluster, with the official client, unmodified. What is not as expected ends it with an error.
import assert from "node:assert/strict";
import { setTimeout as pause } from "node:timers/promises";
import { Writable } from "node:stream";
import * as k8s from "@kubernetes/client-node";

const namespace = "javascript";
const config = new k8s.KubeConfig();
config.loadFromDefault();
const core = config.makeApiClient(k8s.CoreV1Api);

async function until(what, holds) {
  for (const end = Date.now() + 60_000; !(await holds()); await pause(200)) {
    assert(Date.now() < end, `${what} did not come about`);
  }
}

const steps = {
  // Create, read, list in pages, patch in two ways, meet a conflict.
  async objects() {
    await core.createNamespace({ body: { metadata: { name: namespace } } });
    for (let n = 0; n < 12; n++) {
      await core.createNamespacedConfigMap({ namespace, body: { metadata: { name: `map-${n + 10}` }, data: { n: `${n}` } } });
    }
    const names = [];
    let more;
    do {
      const page = await core.listNamespacedConfigMap({ namespace, limit: 5, _continue: more });
      names.push(...page.items.map((item) => item.metadata.name).filter((name) => name.startsWith("map-")));
      more = page.metadata._continue;
    } while (more);
    assert.equal(names.length, 12);
    const stale = await core.readNamespacedConfigMap({ namespace, name: "map-10" });
    const patched = await core.patchNamespacedConfigMap(
      { namespace, name: "map-10", body: { data: { more: "yes" } } },
      k8s.setHeaderOptions("Content-Type", k8s.PatchStrategy.MergePatch),
    );
    assert.deepEqual(patched.data, { n: "0", more: "yes" });
    const removed = await core.patchNamespacedConfigMap(
      { namespace, name: "map-10", body: [{ op: "remove", path: "/data/more" }] },
      k8s.setHeaderOptions("Content-Type", k8s.PatchStrategy.JsonPatch),
    );
    assert.deepEqual(removed.data, { n: "0" });
    await assert.rejects(core.replaceNamespacedConfigMap({ namespace, name: "map-10", body: stale }), (error) => error.code === 409);
  },

  // An informer holds what the server holds, and tells of changes.
  async informers() {
    const list = () => core.listNamespacedConfigMap({ namespace });
    const informer = k8s.makeInformer(config, `/api/v1/namespaces/${namespace}/configmaps`, list);
    const told = [];
    for (const verb of ["add", "update", "delete"]) {
      informer.on(verb, (object) => told.push(`${verb} ${object.metadata.name}`));
    }
    await informer.start();
    await until("the first list", () => informer.list().length >= 12);
    await core.createNamespacedConfigMap({ namespace, body: { metadata: { name: "late" } } });
    await core.deleteNamespacedConfigMap({ namespace, name: "late" });
    await until("the deletion", () => told.includes("delete late"));
    assert(told.indexOf("add late") < told.indexOf("delete late"));
    await informer.stop();
  },

  // Objects of any kind, with server-side apply.
  async "any kind"() {
    const any = k8s.KubernetesObjectApi.makeApiClient(config);
    const deployment = {
      apiVersion: "apps/v1",
      kind: "Deployment",
      metadata: { name: "applied", namespace },
      spec: {
        replicas: 0,
        selector: { matchLabels: { app: "applied" } },
        template: {
          metadata: { labels: { app: "applied" } },
          spec: { containers: [{ name: "web", image: "registry.test/web:1" }] },
        },
      },
    };
    const made = await any.patch(deployment, undefined, undefined, "javascript", true, k8s.PatchStrategy.ServerSideApply);
    assert.equal(made.metadata.managedFields[0].manager, "javascript");
    assert.equal((await any.read(deployment)).spec.strategy.type, "RollingUpdate");
    await any.delete(deployment);
  },

  // A Pod until it runs, its log, and a command in it.
  async pods() {
    const containers = [{ name: "web", image: "registry.test/web:1" }];
    await core.createNamespacedPod({ namespace, body: { metadata: { name: "web" }, spec: { containers } } });
    await until("the pod", async () => (await core.readNamespacedPod({ namespace, name: "web" })).status.phase === "Running");
    await until("the log", async () => (await core.readNamespacedPodLog({ namespace, name: "web" })).includes("serving 1"));
    let said = "";
    const out = new Writable({
      write(chunk, _encoding, done) {
        said += chunk;
        done();
      },
    });
    const status = await new Promise((resolve, reject) => {
      const command = ["sh", "-c", "echo $((6 * 7))"];
      new k8s.Exec(config).exec(namespace, "web", "web", command, out, process.stderr, null, false, resolve).catch(reject);
    });
    assert.equal(status.status, "Success");
    assert.equal(said, "42\n");
  },
};

for (const [name, step] of Object.entries(steps)) {
  await step();
  console.log(name, "ok");
}
await core.deleteNamespace({ name: namespace });
