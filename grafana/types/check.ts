// What a board's parts must be: Grafana's own types, as JSON has them.
//
// Of an enum, JSON has the values. Grafana leaves open what a panel's options and a query hold, since
// plug-ins say that; here they are those of the four kinds of panels that the boards are made of.

import type { AnnotationQuery, Dashboard, DataQuery, FieldConfigSource, GraphFieldConfig, Panel, RowPanel } from "@grafana/schema";
import type * as stat from "@grafana/schema/dist/esm/raw/composable/stat/panelcfg/x/StatPanelCfg_types.gen";
import type * as timeline from "@grafana/schema/dist/esm/raw/composable/statetimeline/panelcfg/x/StateTimelinePanelCfg_types.gen";
import type * as table from "@grafana/schema/dist/esm/raw/composable/table/panelcfg/x/TablePanelCfg_types.gen";
import type * as timeseries from "@grafana/schema/dist/esm/raw/composable/timeseries/panelcfg/x/TimeSeriesPanelCfg_types.gen";

type Plain<T> =
  0 extends 1 & T ? T
  : T extends string ? `${T}`
  : T extends number | boolean | null | undefined ? T
  : T extends object ? { [K in keyof T]: Plain<T[K]> }
  : T;

// What the Prometheus data source adds to an annotation, which it still reads there.
interface Marks {
  expr: string;
  step: `${number}s`;
  tagKeys: string;
  titleFormat: string;
  useValueForTime: boolean;
}

interface PromQuery extends DataQuery {
  expr: string;
  format?: "table" | "time_series";
  instant?: boolean;
  legendFormat?: string;
  range?: boolean;
}

interface Options {
  stat: stat.Options;
  "state-timeline": timeline.Options;
  table: table.Options;
  timeseries: timeseries.Options;
}

interface Custom {
  stat: Record<string, never>;
  "state-timeline": timeline.FieldConfig;
  table: object;
  timeseries: GraphFieldConfig;
}

export type Annotation = Plain<AnnotationQuery & Marks>;
export type Board = Plain<Omit<Dashboard, "annotations" | "panels">>;
export type Row = Plain<RowPanel>;
export type Defaults<Kind extends keyof Custom> = Partial<Plain<Omit<FieldConfigSource["defaults"], "custom">>> & {
  custom?: Partial<Plain<Custom[Kind]>>;
};
export type PanelOf<Kind extends keyof Options> = Plain<Omit<Panel, "fieldConfig" | "options" | "targets" | "type">> & {
  fieldConfig: { defaults: Defaults<Kind>; overrides: Plain<FieldConfigSource["overrides"]> };
  options: Partial<Plain<Options[Kind]>>;
  targets: Plain<PromQuery>[];
  type: Kind;
};
