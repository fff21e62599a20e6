// Text to text: whatever the model writes, as it is written.

import { generation } from "../playground/writing.js";

export default generation({ verb: "Write", words: "text to text", cut: "Cut it" });
