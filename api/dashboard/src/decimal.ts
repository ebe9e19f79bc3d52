/** Exact decimals: the ledger sends them as text, and no digit may pass through a float. */

export interface Decimal {
  readonly units: bigint;
  readonly scale: number;
}

const FORM = /^(-?)(\d+)(?:\.(\d+))?$/;

/** Read plain decimal notation. Throws RangeError for anything else. */
export function parse(text: string): Decimal {
  const told = FORM.exec(text);
  if (told === null) throw new RangeError(`${text}: not a decimal number`);
  const [, sign = "", whole = "0", part = ""] = told;
  return { units: BigInt(`${sign}${whole}${part}`), scale: part.length };
}

function atScale(value: Decimal, scale: number): bigint {
  if (scale === value.scale) return value.units;
  return value.units * 10n ** BigInt(scale - value.scale);
}

export function add(a: Decimal, b: Decimal): Decimal {
  const scale = Math.max(a.scale, b.scale);
  return { units: atScale(a, scale) + atScale(b, scale), scale };
}

export function negate(a: Decimal): Decimal {
  return { units: -a.units, scale: a.scale };
}

/** Tell how two numbers compare: below 0, 0 or above 0. */
export function compare(a: Decimal, b: Decimal): number {
  const scale = Math.max(a.scale, b.scale);
  const difference = atScale(a, scale) - atScale(b, scale);
  return difference < 0n ? -1 : difference > 0n ? 1 : 0;
}

/** Round half-even to so many places; for display only. */
export function rounded(value: Decimal, places: number): Decimal {
  if (value.scale <= places) return value;
  const unit = 10n ** BigInt(value.scale - places);
  const magnitude = value.units < 0n ? -value.units : value.units;
  let quotient = magnitude / unit;
  const twice = (magnitude % unit) * 2n;
  if (twice > unit || (twice === unit && quotient % 2n === 1n)) quotient += 1n;
  return { units: value.units < 0n ? -quotient : quotient, scale: places };
}

/** Return a number with exactly so many places, rounded half-even; for display only. */
export function fixed(value: Decimal, places: number): Decimal {
  const told = rounded(value, places);
  return { units: atScale(told, places), scale: places };
}

/** Write a number in plain notation with groups of thousands, and a true minus sign. */
export function grouped(value: Decimal): string {
  const digits = (value.units < 0n ? -value.units : value.units)
    .toString()
    .padStart(value.scale + 1, "0");
  const cut = digits.length - value.scale;
  const whole = digits.slice(0, cut).replace(/\B(?=(\d{3})+$)/g, ",");
  const part = value.scale > 0 ? `.${digits.slice(cut)}` : "";
  return `${value.units < 0n ? "\u2212" : ""}${whole}${part}`;
}

/** Show a text with at most so many places, and no fewer than `least`. */
export function shown(text: string, most: number, least = 0): string {
  let value = rounded(parse(text), most);
  while (value.scale > least && value.units % 10n === 0n) {
    value = { units: value.units / 10n, scale: value.scale - 1 };
  }
  if (value.scale < least) value = fixed(value, least);
  return grouped(value);
}

/** Return a number for drawing, where a float is near enough. */
export function approximate(value: Decimal): number {
  return Number(value.units) / 10 ** value.scale;
}
