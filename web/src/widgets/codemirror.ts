// CodeMirror for Python (or plain text) in the page's colours, with a mark and a message on the line of an error.

import { closeBrackets, closeBracketsKeymap } from '@codemirror/autocomplete';
import { defaultKeymap, history, historyKeymap, indentWithTab } from '@codemirror/commands';
import { python } from '@codemirror/lang-python';
import { HighlightStyle, bracketMatching, indentOnInput, indentUnit, syntaxHighlighting } from '@codemirror/language';
import { EditorState, Prec, StateEffect, StateField } from '@codemirror/state';
import { Decoration, EditorView, WidgetType, drawSelection, highlightActiveLine, keymap, lineNumbers, type DecorationSet } from '@codemirror/view';
import { tags } from '@lezer/highlight';

export interface Said { line: number; text: string }

class Message extends WidgetType {
  constructor(readonly text: string) { super(); }
  override eq(other: Message): boolean { return other.text === this.text; }
  override toDOM(): HTMLElement {
    const box = document.createElement('div');
    box.className = 'cm-said';
    box.textContent = '▲ ' + this.text;
    return box;
  }
}
const setError = StateEffect.define<Said | null>();
const errors = StateField.define<DecorationSet>({
  create: () => Decoration.none,
  update(marks, transaction) {
    let out = marks.map(transaction.changes);
    for (const effect of transaction.effects) {
      if (!effect.is(setError)) continue;
      out = Decoration.none;
      const said = effect.value;
      if (said && said.line >= 1 && said.line <= transaction.state.doc.lines) {
        const line = transaction.state.doc.line(said.line);
        out = Decoration.set([Decoration.line({ class: 'cm-wrong' }).range(line.from),
          Decoration.widget({ widget: new Message(said.text), block: true, side: 1 }).range(line.to)]);
      }
    }
    return out;
  },
  provide: (field) => EditorView.decorations.from(field),
});

const look = EditorView.theme({
  '&': { height: '100%', fontSize: '13px', backgroundColor: 'var(--panel)', color: 'var(--code-name)' },
  '&.cm-focused': { outline: 'none' },
  '.cm-scroller': { fontFamily: 'var(--mono)', lineHeight: '1.5' },
  '.cm-gutters': { backgroundColor: 'var(--panel)', color: 'var(--muted)', border: 'none' },
  '.cm-activeLine, .cm-activeLineGutter': { backgroundColor: 'transparent' },
  '&.cm-focused .cm-activeLine': { backgroundColor: 'color-mix(in srgb, var(--text) 4%, transparent)' },
  '.cm-cursor': { borderLeftColor: 'var(--text)' },
  '&.cm-focused > .cm-scroller > .cm-selectionLayer .cm-selectionBackground, .cm-selectionBackground': { backgroundColor: 'color-mix(in srgb, var(--accent) 25%, transparent)' },
  '.cm-wrong': { backgroundColor: 'var(--bad-soft)', boxShadow: 'inset 3px 0 0 var(--bad)' },
  '.cm-said': { padding: '2px 8px 3px', backgroundColor: 'var(--bad-soft)', color: 'var(--bad)', whiteSpace: 'pre-wrap', overflowWrap: 'anywhere', boxShadow: 'inset 3px 0 0 var(--bad)', fontSize: '12.5px' },
  '.cm-matchingBracket': { backgroundColor: 'color-mix(in srgb, var(--accent) 22%, transparent) !important' },
});
const colours = HighlightStyle.define([
  { tag: [tags.keyword, tags.operatorKeyword, tags.controlKeyword, tags.modifier], color: 'var(--code-key)' },
  { tag: [tags.string, tags.special(tags.string)], color: 'var(--code-text)' },
  { tag: [tags.number, tags.bool, tags.null], color: 'var(--code-number)' },
  { tag: [tags.comment, tags.lineComment], color: 'var(--code-comment)', fontStyle: 'italic' },
  { tag: [tags.function(tags.definition(tags.variableName)), tags.definition(tags.className)], color: 'var(--accent)' },
]);

// Typed over a selection, Chromium itself would make a styled element, which the page's policy refuses with a message in the console.
const typeOver = EditorView.domEventHandlers({
  beforeinput(event, view) {
    const { ranges, main } = view.state.selection, text = event.data;
    if (event.inputType !== 'insertText' || text === null || main.empty || ranges.length > 1 || event.isComposing) return false;
    event.preventDefault();
    const insert = (): ReturnType<typeof view.state.update> => view.state.update(view.state.replaceSelection(text), { userEvent: 'input.type', scrollIntoView: true });
    if (!view.state.facet(EditorView.inputHandler).some((handler) => handler(view, main.from, main.to, text, insert))) view.dispatch(insert());
    return true;
  },
});

/** In a shadow root: there CodeMirror's style sheets are constructed ones, which the page's policy allows. */
export function makeEditor(host: HTMLElement, text: string, label: string, changed: (text: string) => void, run: () => void, isPython = true): EditorView {
  const root = host.attachShadow({ mode: 'open' });
  const parent = document.createElement('div');
  parent.style.height = '100%';
  root.append(parent);
  return new EditorView({
    parent, root,
    state: EditorState.create({
      doc: text,
      extensions: [
        Prec.highest(keymap.of([{ key: 'Mod-Enter', run: () => { run(); return true; } }])),
        lineNumbers(), history(), drawSelection(), indentOnInput(), bracketMatching(), closeBrackets(), highlightActiveLine(),
        indentUnit.of('    '), EditorState.tabSize.of(4), isPython ? python() : [], syntaxHighlighting(colours), errors, look, typeOver,
        keymap.of([...closeBracketsKeymap, ...defaultKeymap, ...historyKeymap, indentWithTab]),
        EditorView.contentAttributes.of({ 'aria-label': label }),
        EditorView.updateListener.of((update) => { if (update.docChanged) changed(update.state.doc.toString()); }),
      ],
    }),
  });
}

export function showError(view: EditorView, said: Said | null): void {
  const effects: StateEffect<unknown>[] = [setError.of(said)];
  if (said && said.line >= 1 && said.line <= view.state.doc.lines)
    effects.push(EditorView.scrollIntoView(view.state.doc.line(said.line).from, { y: 'center' }));
  view.dispatch({ effects });
}

export function replaceText(view: EditorView, text: string): void {
  if (text !== view.state.doc.toString()) view.dispatch({ changes: { from: 0, to: view.state.doc.length, insert: text } });
}
