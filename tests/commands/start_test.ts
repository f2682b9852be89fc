/** What a start loads: counted in the graph of modules, so that a verb of a host cannot come to load what it does not use. */
import { assert, assertEquals } from "@std/assert";

const ROOT = new URL("../../", import.meta.url).href;

interface Module {
  readonly specifier: string;
  readonly dependencies?: readonly {
    readonly code?: { readonly specifier: string };
    readonly isDynamic?: boolean;
  }[];
}

const graph = await readGraph();

async function readGraph(): Promise<ReadonlyMap<string, readonly string[]>> {
  const { code, stdout, stderr } = await new Deno.Command(Deno.execPath(), {
    args: [
      "info",
      "--json",
      "--config",
      new URL("deno.json", ROOT).pathname,
      new URL("main.ts", ROOT).pathname,
    ],
    stdin: "null",
  }).output();
  const text = new TextDecoder();
  assertEquals(code, 0, text.decode(stderr));
  const { modules } = JSON.parse(text.decode(stdout)) as { readonly modules: readonly Module[] };
  return new Map(modules.map(({ specifier, dependencies = [] }) => [
    specifier,
    dependencies.flatMap(({ code, isDynamic }) => code === undefined || isDynamic ? [] : [code.specifier]),
  ]));
}

/** All that is loaded with these modules: paths in the project, `npm:…` and `node:…`. */
function loadedWith(...paths: readonly string[]): Set<string> {
  const found = new Set(paths.map((path) => `${ROOT}${path}`));
  for (const specifier of found) {
    assert(graph.has(specifier) || !specifier.startsWith(ROOT), `${specifier} is not in the graph`);
    for (const dependency of graph.get(specifier) ?? []) found.add(dependency);
  }
  return new Set([...found].map((specifier) => specifier.replace(ROOT, "")));
}

/** Libraries and modules of Node, without the small functions of `deno-std`. */
function librariesOf(loaded: ReadonlySet<string>): string[] {
  return [...loaded].filter((specifier) => /^(npm|node):/.test(specifier) && !/deno-std/.test(specifier));
}

/** What `mobula host` and the units of a host load before their verb. */
const BEFORE_VERB = ["main.ts", "lib/host/serve.ts"];

/** The modules of the verbs, from the texts that load them. */
const VERB_MODULES = [
  ...new Set(
    (await Promise.all(
      ["lib/host/serve.ts", "lib/commands/up.ts"].map((path) => Deno.readTextFile(new URL(path, ROOT))),
    )).flatMap((text) =>
      [...text.matchAll(/import\("(?:\.\/|\.\.\/host\/)([^"]+)"\)/g)].map(([, name]) => `lib/host/${name}`)
    ),
  ),
].sort();

Deno.test("start: --version loads neither the command line nor a library", () => {
  const loaded = loadedWith("main.ts");
  assertEquals(librariesOf(loaded), []);
  assert(!loaded.has("lib/commands/program.ts"));
});

Deno.test("start: host status loads no library, no schema, and none of the other verbs", () => {
  const loaded = loadedWith(...BEFORE_VERB, "lib/host/status.ts");
  assertEquals(librariesOf(loaded), []);
  assertEquals([...loaded].filter((path) => VERB_MODULES.includes(path)), [
    "lib/host/serve.ts",
    "lib/host/status.ts",
  ]);
});

Deno.test("start: no verb of a host loads a module of Node or a library other than the schemas'", () => {
  assert(VERB_MODULES.length >= 15, VERB_MODULES.join(", "));
  for (const path of VERB_MODULES) {
    const others = librariesOf(loadedWith(...BEFORE_VERB, path)).filter((name) => !/\bzod@/.test(name));
    assertEquals(others, [], path);
  }
});
