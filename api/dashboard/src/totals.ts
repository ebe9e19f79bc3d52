/** Sums by currency, exact, kept up as rows come and go. */

import type { Row } from "./api";
import { add, negate, parse, type Decimal } from "./decimal";

export const TOTALS = ["market_value", "unrealised_pnl", "realised_pnl", "fees"] as const;

export interface Sums {
  readonly currency: string;
  /** In the order of TOTALS; null where no row has one. */
  readonly sums: readonly (Decimal | null)[];
}

interface Sum {
  value: Decimal;
  rows: number;
}

const ZERO = parse("0");

export class Totals {
  #byCurrency = new Map<string, { rows: number; readonly sums: readonly Sum[] }>();

  add(row: Row): void {
    this.#count(row, 1);
  }

  remove(row: Row): void {
    this.#count(row, -1);
  }

  /** Return the sums there are, by currency. */
  sums(): Sums[] {
    return [...this.#byCurrency]
      .filter(([, { rows }]) => rows > 0)
      .map(([currency, { sums }]) => ({
        currency,
        sums: sums.map(({ value, rows }) => (rows > 0 ? value : null)),
      }))
      .sort((a, b) => (a.currency < b.currency ? -1 : 1));
  }

  #count(row: Row, sign: 1 | -1): void {
    const currency = String(row["currency"]);
    let told = this.#byCurrency.get(currency);
    if (told === undefined) {
      told = { rows: 0, sums: TOTALS.map(() => ({ value: ZERO, rows: 0 })) };
      this.#byCurrency.set(currency, told);
    }
    told.rows += sign;
    TOTALS.forEach((name, index) => {
      const text = row[name];
      if (text === null || text === undefined) return;
      const sum = told.sums[index]!;
      const value = parse(String(text));
      sum.value = add(sum.value, sign === 1 ? value : negate(value));
      sum.rows += sign;
    });
  }
}
