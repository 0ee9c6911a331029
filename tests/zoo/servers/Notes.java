import io.modelcontextprotocol.server.McpServer;
import io.modelcontextprotocol.server.transport.HttpServletStreamableServerTransportProvider;
import io.modelcontextprotocol.spec.McpSchema.CallToolResult;
import io.modelcontextprotocol.spec.McpSchema.Tool;
import java.net.InetSocketAddress;
import java.util.List;
import java.util.Map;
import org.eclipse.jetty.ee10.servlet.ServletContextHandler;
import org.eclipse.jetty.ee10.servlet.ServletHolder;
import org.eclipse.jetty.server.Server;

/** A server of the MCP Java SDK in Jetty. */
class Notes {
    public static void main(String[] arguments) throws Exception {
        var transport = HttpServletStreamableServerTransportProvider.builder().mcpEndpoint("/mcp").build();
        Map<String, Object> number = Map.of("type", "integer", "minimum", 1, "maximum", 100);
        Map<String, Object> schema =
                Map.of("type", "object", "properties", Map.of("number", number), "required", List.of("number"));
        var tool = Tool.builder("get_note", schema).description("Return a note.").build();
        McpServer.sync(transport)
                .serverInfo("notes", "1")
                .toolCall(tool, (exchange, request) -> CallToolResult.builder()
                        .addTextContent("note " + request.arguments().get("number"))
                        .build())
                .build();
        var context = new ServletContextHandler();
        var holder = new ServletHolder(transport);
        holder.setAsyncSupported(true);
        context.addServlet(holder, "/*");
        var server = new Server(new InetSocketAddress("127.0.0.1", 0));
        server.setHandler(context);
        server.start();
        server.join();
    }
}
