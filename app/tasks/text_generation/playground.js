// Text generation: what the model writes behind a text, or says next in a conversation, as it is written.

import { conversation } from "../playground/chat.js";
import { generation } from "../playground/writing.js";

export default {
  ...generation({ verb: "Continue", words: "text generation", cut: "Cut its beginning" }),
  desk: (model, page, plain) => (model.task_options.chat_template ? conversation(model, page, plain) : plain()),
};
