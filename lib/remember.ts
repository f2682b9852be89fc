/**
 * Results that are computed once and used several times. Pure.
 */

/**
 * The function, computing once for each object: further calls with the same object return the same value, as long as the object is in
 * use. For objects that are not changed, and of which there are few: the garbage collector treats the values as long-lived.
 */
export function oncePer<Key extends object, Value>(compute: (key: Key) => Value): (key: Key) => Value {
  const values = new WeakMap<Key, { readonly value: Value }>();
  return (key) => {
    const known = values.get(key) ?? { value: compute(key) };
    values.set(key, known);
    return known.value;
  };
}
