/**
 * Counts how often an action touches the elements of its collections, without a word in the code under test: for as long as it runs, the
 * methods of the language that go through a collection or a text count what they go through. Not seen are loops by index, `for … in` and
 * the joining of two texts by `+`.
 */

// deno-lint-ignore no-explicit-any
type Method = (this: any, ...args: any[]) => any;
// deno-lint-ignore no-explicit-any
type Prototype = any;
type Count = (elements: number) => void;

/** They call a function for each element until they know the answer. */
const CALLING = [
  ...[
    "every",
    "filter",
    "find",
    "findIndex",
    "findLast",
    "findLastIndex",
    "flatMap",
    "forEach",
    "map",
    "reduce",
  ],
  ...["reduceRight", "some", "sort", "toSorted"],
];
/** They search, copy or move elements themselves: up to all of them. */
const GOING_THROUGH = [
  ...[
    "concat",
    "copyWithin",
    "fill",
    "flat",
    "includes",
    "indexOf",
    "join",
    "lastIndexOf",
    "reverse",
    "shift",
  ],
  ...["splice", "toReversed", "toSpliced", "unshift", "with"],
];
const SEARCHING_TEXT = [
  "includes",
  "indexOf",
  "lastIndexOf",
  "match",
  "matchAll",
  "replace",
  "replaceAll",
  "split",
];

/** How many elements the action went through; a number that is the same in each run. The action must not wait for anything. */
export function countWork(action: () => void): number {
  let [work, counts] = [0, false];
  const restore = countIn((elements) => {
    if (counts) work += elements;
  });
  try {
    counts = true;
    action();
    counts = false;
  } finally {
    restore();
  }
  return work;
}

function countIn(count: Count): () => void {
  const undo = [
    ...CALLING.map((name) => replace(Array.prototype, name, (method) => countCalls(method, count))),
    ...GOING_THROUGH.map((name) =>
      replace(Array.prototype, name, (method) => countBefore(method, count, sizeOf))
    ),
    replace(Array.prototype, "slice", (method) => countAfter(method, count)),
    replace(Array.prototype, "push", (method) => countBefore(method, count, (_self, args) => args.length)),
    ...[Array, Map, Set].flatMap(({ prototype }) =>
      (["entries", "keys", "values", Symbol.iterator] as const).map((name) =>
        replace(prototype, name, (method) => countNext(method, count))
      )
    ),
    ...[Map, Set].map(({ prototype }) =>
      replace(prototype, "forEach", (method) => countCalls(method, count))
    ),
    ...SEARCHING_TEXT.map((name) =>
      replace(String.prototype, name, (method) => countBefore(method, count, sizeOf))
    ),
    ...["exec", "test"].map((name) =>
      replace(RegExp.prototype, name, (method) => countBefore(method, count, (_self, [text]) => sizeOf(text)))
    ),
    ...["entries", "fromEntries", "keys", "values"].map((name) =>
      replace(Object, name, (method) => countAfter(method, count))
    ),
    replace(JSON, "stringify", (method) => countAfter(method, count)),
  ];
  return () => undo.forEach((one) => one());
}

function replace(owner: Prototype, name: string | symbol, counting: (method: Method) => Method): () => void {
  const before = Object.getOwnPropertyDescriptor(owner, name)!;
  Object.defineProperty(owner, name, { ...before, value: counting(before.value) });
  return () => Object.defineProperty(owner, name, before);
}

function sizeOf(collection: unknown): number {
  return (collection as { readonly length?: number } | undefined)?.length ?? 0;
}

function countCalls(method: Method, count: Count): Method {
  return function (callback, ...rest) {
    if (callback === undefined) return method.call(this);
    const counted: Method = function (...args) {
      count(1);
      return callback.apply(this, args);
    };
    return method.call(this, counted, ...rest);
  };
}

function countBefore(method: Method, count: Count, size: (self: unknown, args: unknown[]) => number): Method {
  return function (...args) {
    count(size(this, args));
    return method.apply(this, args);
  };
}

function countAfter(method: Method, count: Count): Method {
  return function (...args) {
    const result = method.apply(this, args);
    count(sizeOf(Array.isArray(result) || typeof result === "string" ? result : Object.keys(result)));
    return result;
  };
}

function countNext(method: Method, count: Count): Method {
  return function () {
    const iterator = method.call(this);
    const next = iterator.next.bind(iterator);
    iterator.next = () => {
      count(1);
      return next();
    };
    return iterator;
  };
}
