// What fanbench/view/document.py and details.py write. A test compares the names of all fields.

export interface TaskEntry {
  name: string;
  slug: string;
  versions: number[];
  averaged: boolean;
}

export interface CellEntry {
  task: number;
  model: number;
  text: string;
  value: number | null;
  score: number | null;
  low: number | null;
  high: number | null;
  stated: boolean;
  bound_low: number | null;
  bound_high: number | null;
  planned: number;
  scored: number;
  errored: number;
  no_value: number;
  cost_usd: number | null;
  seconds: number | null;
  tokens: number | null;
}

export interface BoardRow {
  model: number;
  rank_low: number | null;
  rank_high: number | null;
  score: number | null;
  low: number | null;
  high: number | null;
  bound_low: number | null;
  bound_high: number | null;
  scored: number;
  planned: number;
  cost_usd: number | null;
  seconds: number | null;
  efficient: boolean;
  lacking: number[];
}

export interface Board {
  rows: BoardRow[];
  legend: string[];
  remarks: string[];
}

export interface PairEntry {
  task: number;
  model: number;
  items: number;
  lacking: number;
  better: number;
  worse: number;
  difference: number;
  low: number;
  high: number;
  p: number;
  adjusted: number;
  smallest: number;
}

export interface FlipEntry {
  task: number;
  model: number;
  item: string;
  before: number;
  after: number;
}

export interface DifferenceEntry {
  difference: number;
  low: number;
  high: number;
  p: number;
}

export interface ComparisonEntry {
  first: number;
  second: number;
  difference: number | null;
  low: number | null;
  high: number | null;
  p: number | null;
  items: number;
  like_these: DifferenceEntry | null;
  pairs: PairEntry[] | null;
  flips: FlipEntry[];
  remarks: string[];
}

export interface ErrorEntry {
  task: number;
  model: number;
  before: number;
  now: number;
}

export interface Before {
  title: string;
  comparison: ComparisonEntry;
  verdict: string;
  conclusion: string;
  coverage: number;
  errors_before: number;
  errors_now: number;
  errors: ErrorEntry[];
  only_before: string[];
  only_now: string[];
}

export interface Document {
  format: number;
  fanbench: string;
  title: string;
  written: string;
  live: boolean;
  status: "running" | "complete" | "incomplete";
  states: string[];
  counts: number[];
  repeats: number;
  seconds: number | null;
  confidence: number;
  tasks: TaskEntry[];
  models: string[];
  cells: CellEntry[];
  board: Board;
  board_like_these: Board | null;
  before: Before | null;
  timeline: Timeline | null;
  problems: string[];
}

export interface InvocationEntry {
  began: number;
  ended: number | null;
  last: number;
  planned: number;
  done: number;
  calls: number;
  stopped: string;
}

export interface LimitEntry {
  at: number;
  limit: number;
  pause: number;
  reason: string;
}

export interface BudgetEntry {
  at: number;
  cap: number;
  spent: number | null;
  reserved: number | null;
}

export interface MarkEntry {
  at: number;
  kind: string;
  count: number;
  what: string;
  text: string;
}

export interface Timeline {
  invocations: InvocationEntry[];
  limits: LimitEntry[];
  budget: BudgetEntry[];
  marks: MarkEntry[];
}

export interface Patch {
  version: number;
  document: Partial<Document>;
  cells: CellEntry[];
  texts: string[];
  columns: Record<string, [number[], (number | null)[]]>;
}

export interface MediaEntry {
  type: string;
  uri?: string;
  data?: string;
}

export interface MessageEntry {
  role: string;
  sender?: string;
  text?: string;
  cut?: number;
  media?: MediaEntry[];
  reasoning?: string;
  tokens_in?: number;
  tokens_out?: number;
  cost_usd?: number;
  seconds?: number;
}

export interface Conversation {
  name: string;
  messages: MessageEntry[];
}

export interface AssertionEntry {
  passed: boolean;
  expectation: string;
  line: number | null;
  source: string;
}

export interface Part {
  item?: string;
  state?: string;
  value?: number;
  error?: string;
  tokens_in?: number;
  tokens_out?: number;
  cost_usd?: number;
  seconds?: number;
  assertions?: AssertionEntry[];
  conversations?: Conversation[];
}

export interface FileEntry {
  name: string;
  size: number;
}

export interface LogPart {
  text: string;
  next: number;
}

export interface Details {
  path: string;
  parts: Part[];
  more_parts: number;
  log: string;
  log_cut: number;
  files: FileEntry[];
}
