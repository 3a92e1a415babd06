// Draws one board with Grafana's own components and the answers that Prometheus gave.
//
// Numbers, graphs, tables and the frames around them are those of @grafana/ui. State timelines are
// part of Grafana's application and in no package, so those are drawn here, with the colours and
// names that Grafana's value mappings give.

// `import = require`, since the packages' other build takes its own dependencies for something else.
import type { DataFrame, Field, GrafanaTheme2 } from "@grafana/data";
import data = require("@grafana/data");
import ui = require("@grafana/ui");
import React from "react";
import { createRoot } from "react-dom/client";

import "uplot/dist/uPlot.min.css";

const { FieldType, createTheme, dateTime, getDisplayProcessor, toDataFrame } = data;
const { BigValue, BigValueColorMode, BigValueGraphMode, GlobalStyles, PanelChrome, Table, ThemeContext, TimeSeries } = ui;

type Labels = Record<string, string>;
interface Series { metric: Labels; value?: [number, string]; values?: [number, string][] }
interface Picture { board: any; began: number; ended: number; answers: Record<string, Series[]> }

const CELL = 38, GAP = 8, WIDTH = 1600;
const theme: GrafanaTheme2 = createTheme({ colors: { mode: "dark" } });
const picture: Picture = (window as any).PICTURE;
const unit = (WIDTH - GAP) / 24;

function named(legend: string | undefined, labels: Labels): string {
  return (legend ?? "").replace(/\{\{(\w+)\}\}/g, (_, label) => labels[label] ?? "");
}

function overridden(panel: any, name: string): any {
  const config = structuredClone(panel.fieldConfig.defaults);
  for (const { matcher, properties } of panel.fieldConfig.overrides ?? []) {
    if (matcher.options !== name) continue;
    for (const { id, value } of properties) {
      if (id.startsWith("custom.")) config.custom = { ...config.custom, [id.slice(7)]: value };
      else config[id] = value;
    }
  }
  return config;
}

function displayed(field: Field): Field {
  field.display = getDisplayProcessor({ field, theme });
  return field;
}

function answers(panel: any): { target: any; series: Series[] }[] {
  return panel.targets.map((target: any) => ({ target, series: picture.answers[`${panel.id} ${target.refId}`] }));
}

function number_(panel: any, width: number, height: number) {
  const value = answers(panel)[0].series[0]?.value?.[1];
  const config = overridden(panel, "");
  const field: Field = displayed({ name: "Value", type: FieldType.number, values: [], config });
  const shown = value === undefined || value === "NaN"
    ? { text: config.noValue, numeric: NaN, color: theme.colors.text.primary }
    : field.display!(Number(value));
  return <BigValue width={width} height={height} theme={theme} value={shown}
    colorMode={BigValueColorMode.Value} graphMode={BigValueGraphMode.None} />;
}

function lines(panel: any, width: number, height: number) {
  let index = 0;
  const frames: DataFrame[] = answers(panel).flatMap(({ target, series }) => series.map((one) => {
    const name = named(target.legendFormat, one.metric);
    const config = overridden(panel, name);
    config.custom = { axisPlacement: "auto", scaleDistribution: { type: "linear" }, hideFrom: {}, ...config.custom };
    config.color ??= { mode: "palette-classic" };
    config.displayName = name;
    const frame = toDataFrame({ refId: target.refId, fields: [
      { name: "Time", type: FieldType.time, values: one.values!.map(([at]) => at * 1000) },
      { name: "Value", type: FieldType.number, values: one.values!.map(([, value]) => (value === "NaN" ? null : Number(value))), config },
    ] });
    frame.fields[1].state = { seriesIndex: index++, displayName: name };
    frame.fields.forEach(displayed);
    return frame;
  }));
  if (!frames.length) return <div style={{ padding: 16 }}>No data</div>;
  const [from, to] = [picture.began, picture.ended].map((at) => dateTime(at * 1000));
  return <TimeSeries frames={frames} width={width} height={height} timeZone="utc" structureRev={1}
    timeRange={{ from, to, raw: { from, to } }} legend={{ calcs: [], ...panel.options.legend }} options={panel.options} />;
}

// From, until and the value of each stretch in which it stayed the same.
function merged(values: [number, string][]): [number, number, string][] {
  const found: [number, number, string][] = [];
  for (const [at, value] of values) {
    const last = found.at(-1);
    if (last && last[2] === value) last[1] = at + 1;
    else found.push([at, at + 1, value]);
  }
  return found;
}

function timeline(panel: any, width: number, height: number) {
  const [{ target, series }] = answers(panel);
  const field = displayed({ name: "", type: FieldType.number, values: [], config: overridden(panel, "") });
  const across = picture.ended - picture.began;
  const left = 210, row = Math.min(34, (height - 44) / Math.max(series.length, 1));
  const x = (at: number) => left + (width - left - 30) * (at - picture.began) / across;
  const ticks = [0, 1, 2, 3, 4].map((n) => picture.began + across * n / 4);
  return <div style={{ position: "relative", width, height, font: "12px Inter, sans-serif", color: theme.colors.text.secondary }}>
    {series.map((one, number) => <React.Fragment key={number}>
      <div style={{ position: "absolute", width: left - 10, textAlign: "right", top: number * row + row / 2 - 9,
        overflow: "hidden", whiteSpace: "nowrap", textOverflow: "ellipsis" }}>{named(target.legendFormat, one.metric)}</div>
      {merged(one.values!).map(([from, until, value]) => <div key={from} style={{
        position: "absolute", left: x(from), width: x(until) - x(from), top: number * row + row * 0.1, height: row * 0.8,
        opacity: 0.85, background: field.display!(Number(value)).color }} />)}
    </React.Fragment>)}
    {ticks.map((at) => <div key={at} style={{ position: "absolute", top: series.length * row + 4, left: x(at) - 26 }}>
      {new Date(at * 1000).toISOString().slice(11, 19)}</div>)}
    <div style={{ position: "absolute", bottom: 0, left: 8, display: "flex", gap: 16 }}>
      {Object.values(panel.fieldConfig.defaults.mappings[0].options as any[]).map((one: any) =>
        <span key={one.text}><span style={{ display: "inline-block", width: 14, height: 4, marginRight: 6, verticalAlign: "middle",
          background: theme.visualization.getColorByName(one.color) }} />{one.text}</span>)}
    </div>
  </div>;
}

function listing(panel: any, width: number, height: number) {
  const asked = answers(panel);
  const value = (ref: string) => asked.length > 1 ? `Value #${ref}` : "Value";
  const rows = new Map<string, { labels: Labels; values: Record<string, number> }>();
  for (const { target, series } of asked) {
    for (const one of series) {
      const key = JSON.stringify(Object.entries(one.metric).sort());
      if (!rows.has(key)) rows.set(key, { labels: one.metric, values: {} });
      rows.get(key)!.values[target.refId] = Number(one.value![1]);
    }
  }
  const order = panel.transformations.find((one: any) => one.id === "organize").options.indexByName;
  const sorted = [...rows.values()].sort((a, b) => (b.values.A ?? 0) - (a.values.A ?? 0));
  const fields = Object.keys(order).map((name) => {
    const target = asked.find((one) => value(one.target.refId) === name)?.target;
    const config = overridden(panel, name);
    delete config.links;
    return {
      name, config, type: target ? FieldType.number : FieldType.string,
      values: sorted.map((one) => target ? one.values[target.refId] : one.labels[name]),
    };
  });
  if (!sorted.length) return <div style={{ padding: 16 }}>{panel.fieldConfig.defaults.noValue}</div>;
  const frame = toDataFrame({ fields });
  frame.fields.forEach(displayed);
  return <Table data={frame} width={width} height={height} />;
}

const KINDS: Record<string, (panel: any, width: number, height: number) => React.ReactNode> = {
  stat: number_, timeseries: lines, "state-timeline": timeline, table: listing,
};

function Board() {
  const { board } = picture;
  return <ThemeContext.Provider value={theme}>
    <GlobalStyles />
    <div style={{ position: "absolute", left: 14, top: 12, font: "500 18px Inter, sans-serif" }}>{board.title}
      <span style={{ font: "13px Inter, sans-serif", marginLeft: 14, color: theme.colors.text.secondary }}>{board.description}</span></div>
    {board.panels.map((panel: any) => {
      const { x, y, w, h } = panel.gridPos;
      const box = { position: "absolute" as const, left: x * unit + GAP, top: y * CELL + 44, width: w * unit - GAP, height: h * CELL - GAP };
      if (panel.type === "row") return <div key={panel.id} style={{ ...box, font: "500 14px Inter, sans-serif", paddingTop: 8 }}>{panel.title}</div>;
      return <div key={panel.id} style={box}>
        <PanelChrome title={panel.title} width={box.width} height={box.height} description={panel.description}>
          {(width, height) => KINDS[panel.type](panel, width, height)}
        </PanelChrome>
      </div>;
    })}
  </ThemeContext.Provider>;
}

document.body.style.background = theme.colors.background.canvas;
createRoot(document.getElementById("board")!).render(<Board />);
